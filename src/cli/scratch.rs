//! A folder for one run of a command that tries the daemon out; it goes with the run.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{Exit, Failure, Trouble};

/// The folder, removed with everything in it when this is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below the system's folder for temporary files, for this user only.
    pub(super) fn make(command: &str) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("postrider-{command}-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let help = "set TMPDIR to a folder that this user may write to";
            Failure::new(
                Exit::Failed,
                Trouble::new("cannot make a scratch folder", path.display().to_string(), error.to_string(), help),
            )
        })?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies in the system's folder for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
