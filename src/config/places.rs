//! Where files lie when nobody says otherwise.

use std::path::{Path, PathBuf};

/// The folders of one installation: the system's, or those of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Holds `config.toml` and `conf.d`.
    pub config: PathBuf,
    /// Holds the store.
    pub state: PathBuf,
    /// Holds the sockets.
    pub runtime: PathBuf,
}

impl Places {
    /// The folders of a packaged installation.
    pub fn packaged() -> Self {
        Places { config: "/etc/postrider".into(), state: "/var/lib/postrider".into(), runtime: "/run/postrider".into() }
    }

    /// The folders of whoever runs this process: what systemd assigned to the service, else the packaged ones for root,
    /// else the person's own (XDG base directories). `variable` reads the environment.
    pub fn of_process(is_root: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let packaged = Places::packaged();
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        // systemd lists several folders with colons between them; the first is the unit's main one.
        let assigned = |name: &str| set(name).and_then(|list| list.split(':').next().map(PathBuf::from));
        let home = set("HOME").map(PathBuf::from);
        let personal = |base: &str, under_home: &str| -> Option<PathBuf> {
            if is_root {
                return None;
            }
            // The XDG specification tells readers to ignore relative paths.
            let base = set(base).map(PathBuf::from).filter(|path| path.is_absolute());
            let folder = base.or_else(|| home.as_ref().map(|home| home.join(under_home)))?;
            Some(folder.join("postrider"))
        };
        let state = assigned("STATE_DIRECTORY")
            .or_else(|| personal("XDG_STATE_HOME", ".local/state"))
            .unwrap_or(packaged.state);
        let runtime = assigned("RUNTIME_DIRECTORY").or_else(|| {
            let base = set("XDG_RUNTIME_DIR").filter(|_| !is_root)?;
            Some(Path::new(&base).join("postrider"))
        });
        let runtime = match runtime {
            Some(runtime) => runtime,
            // Without a session there is no runtime folder; the state folder is at least the person's own.
            None if state != Places::packaged().state => state.join("run"),
            None => packaged.runtime,
        };
        let config = assigned("CONFIGURATION_DIRECTORY")
            .or_else(|| personal("XDG_CONFIG_HOME", ".config"))
            .unwrap_or(packaged.config);
        Places { config, state, runtime }
    }

    /// The ingest socket's default path.
    pub fn ingest_socket(&self) -> PathBuf {
        self.runtime.join("ingest.sock")
    }

    /// The admin socket's default path.
    pub fn admin_socket(&self) -> PathBuf {
        self.runtime.join("admin.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(is_root: bool, variables: &[(&str, &str)]) -> [String; 3] {
        let places = Places::of_process(is_root, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        [places.config, places.state, places.runtime].map(|path| path.display().to_string())
    }

    #[test]
    fn each_user_gets_the_folders_of_its_kind() {
        let packaged = ["/etc/postrider", "/var/lib/postrider", "/run/postrider"];
        type Case = (bool, &'static [(&'static str, &'static str)], [&'static str; 3]);
        let table: [Case; 6] = [
            (true, &[("HOME", "/home/gateway"), ("XDG_RUNTIME_DIR", "/run/user/0")], packaged),
            (false, &[], packaged),
            (
                false,
                &[("HOME", "/home/ada"), ("XDG_RUNTIME_DIR", "/run/user/7")],
                ["/home/ada/.config/postrider", "/home/ada/.local/state/postrider", "/run/user/7/postrider"],
            ),
            (
                false,
                &[("HOME", "/home/ada")],
                [
                    "/home/ada/.config/postrider",
                    "/home/ada/.local/state/postrider",
                    "/home/ada/.local/state/postrider/run",
                ],
            ),
            (
                false,
                &[("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "relative"), ("XDG_RUNTIME_DIR", "/r")],
                ["/h/.config/postrider", "/s/postrider", "/r/postrider"],
            ),
            (
                false,
                &[
                    ("STATE_DIRECTORY", "/var/lib/postrider:/x"),
                    ("RUNTIME_DIRECTORY", "/run/postrider"),
                    ("HOME", "/h"),
                ],
                ["/h/.config/postrider", "/var/lib/postrider", "/run/postrider"],
            ),
        ];
        for (is_root, variables, expected) in table {
            assert_eq!(places(is_root, variables), expected, "root {is_root}, {variables:?}");
        }
    }
}
