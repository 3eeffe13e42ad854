//! Watches what is left on the store's disk. A disk runs out of bytes or of files (inodes); either stops the intake before the
//! store meets the end of it, and the intake resumes by itself.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How often the disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Files that must be free, on a file system that is not tiny.
const FILES_RESERVE: u64 = 100;

/// What is left on a disk for a process without privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// In bytes.
    pub bytes: u64,
    /// Files that can still be made, and how many there can be in all; `None` where the file system has no such bound.
    pub files: Option<(u64, u64)>,
}

impl Left {
    /// What is left on the disk of a folder.
    pub(super) fn at(folder: &Path) -> Result<Self, nix::Error> {
        let disk = nix::sys::statvfs::statvfs(folder)?;
        Ok(Left {
            bytes: disk.blocks_available().saturating_mul(disk.fragment_size()),
            files: (disk.files() > 0).then(|| (disk.files_available(), disk.files())),
        })
    }

    fn is_low(&self, reserve: u64) -> bool {
        self.bytes < reserve || self.files.is_some_and(|(left, all)| left < FILES_RESERVE.min(all / 100))
    }
}

/// Looks again and again, and says each time it becomes low or is so no longer. `reserve` is in bytes.
pub(super) async fn watch(
    look: impl Fn() -> Result<Left, nix::Error> + Clone + Send + 'static,
    reserve: u64,
    note_low: impl Fn(bool),
    stop: CancellationToken,
) {
    let mut was_low = false;
    loop {
        // A disk in trouble may not answer at once, or at all.
        let looking = tokio::task::spawn_blocking(look.clone());
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = looking => looked,
        };
        match looked {
            Ok(Ok(left)) => {
                let low = left.is_low(reserve);
                if low != was_low {
                    let files = left.files.map(|(left, _)| left);
                    tracing::warn!(
                        event = "disk",
                        low,
                        bytes = left.bytes,
                        reserve,
                        files,
                        "what is left on the store's disk"
                    );
                    note_low(low);
                    was_low = low;
                }
            }
            Ok(Err(error)) => tracing::warn!(event = "disk_unknown", %error, "look at the store's disk"),
            Err(error) => tracing::warn!(event = "disk_unknown", %error, "look at the store's disk"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    const PLENTY: Left = Left { bytes: 1000, files: Some((5000, 100_000)) };

    /// P9: the intake stops before the disk has run out of bytes or of files, and resumes within five seconds by itself.
    #[tokio::test(start_paused = true)]
    async fn a_lack_of_bytes_or_of_files_is_noted_and_so_is_its_end() {
        let lacks = [
            Left { bytes: 999, ..PLENTY },
            Left { files: Some((99, 100_000)), ..PLENTY },
            Left { files: Some((9, 1000)), ..PLENTY },
            Left { bytes: 0, files: Some((0, 1000)) },
        ];
        let left = Arc::new(Mutex::new(Ok(PLENTY)));
        let (tell, mut told) = mpsc::unbounded_channel();
        let (look, stop) = (Arc::clone(&left), CancellationToken::new());
        let watching = watch(move || *look.lock().unwrap(), 1000, move |low| tell.send(low).unwrap(), stop.clone());
        let watching = tokio::spawn(watching);
        for lack in lacks {
            for (now, low) in [(lack, true), (PLENTY, false)] {
                let since = Instant::now();
                *left.lock().unwrap() = Ok(now);
                assert_eq!(told.recv().await, Some(low), "{lack:?}");
                assert!(since.elapsed() <= Duration::from_secs(5));
            }
        }
        // Neither of these is a lack, and whoever cannot look does not know.
        let enough =
            [Ok(Left { files: None, ..PLENTY }), Ok(Left { files: Some((10, 1000)), ..PLENTY }), Err(nix::Error::EIO)];
        for enough in enough {
            *left.lock().unwrap() = enough;
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(told.is_empty(), "{enough:?}");
        }
        stop.cancel();
        watching.await.unwrap();
        assert_eq!(told.recv().await, None);
    }

    #[test]
    fn a_real_disk_has_something_left() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Left::at(folder.path()).unwrap().is_low(1));
        assert_eq!(Left::at(&folder.path().join("nothing")), Err(nix::Error::ENOENT));
    }
}
