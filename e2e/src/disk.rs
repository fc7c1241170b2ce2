//! A small disk, to be filled: a file system in memory of a few megabytes. It takes root.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Enough for an empty database, and soon full.
const SIZE: &str = "size=8m";

/// A mounted disk. Dropping it takes it away.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one at this directory, or says why not.
    pub fn mount(at: &Path) -> Result<SmallDisk, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "kurir-e2e"]).arg(at);
        let mounted = mount.output().map_err(|error| error.to_string())?;
        if mounted.status.success() {
            return Ok(SmallDisk { at: at.to_owned() });
        }
        Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned())
    }

    /// Takes every byte that is left.
    pub fn fill(&self) {
        let mut filler = File::create(self.filler()).expect("a file");
        // Down to the last byte: a page that just fits would be no full disk.
        for size in [64 * 1024, 4096, 1] {
            let bytes = vec![b'x'; size];
            loop {
                match filler.write_all(&bytes) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("filling the disk: {error}"),
                }
            }
        }
    }

    /// Gives them back.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler");
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there is about to end.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
