//! Unix sockets on disk: bound where nothing else is, with the mode and the group they are meant to have.

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Gid;
use tokio::net::UnixListener;

/// Binds a Unix socket at a path: an old socket that nobody listens on is removed first, one in use is left alone.
///
/// The socket gets `mode`, and `group` where one is given.
pub fn bind(path: &Path, mode: u32, group: Option<Gid>) -> Result<UnixListener, BindError> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let failed = |act| {
        let path = path.to_owned();
        move |cause| BindError { path, act, cause }
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed("make the folder"))?;
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(failed("bind")(io::Error::other("something that is not a socket lies there; move it away")));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => {
                return Err(failed("bind")(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path).map_err(failed("remove the old socket"))?;
            }
            Err(error) => return Err(failed("look at")(error)),
        },
    }
    let listener = UnixListener::bind(path).map_err(failed("bind"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed("set the mode"))?;
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group.as_raw())).map_err(failed("give to its group"))?;
    }
    Ok(listener)
}

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{act} {path}: {cause}")]
pub struct BindError {
    /// The socket's path.
    pub path: PathBuf,
    /// What was being done.
    pub act: &'static str,
    /// What the system said.
    pub cause: io::Error,
}
