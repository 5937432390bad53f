//! What this process uses of its machine, as Linux tells it; zero where it does not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Processor time of all threads, in seconds. The kernel counts in hundredths.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold spaces; user and system time are the 12th and 13th field after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    f64::from(ticks) / 100.0
}

/// Resident memory.
pub(crate) fn memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}

/// Bytes that a folder takes on its disk.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// Bytes in all and bytes still free for this process on the disk of a folder.
pub(crate) fn disk_room(folder: &Path) -> Option<(u64, u64)> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some((disk.f_frsize.saturating_mul(disk.f_blocks), disk.f_frsize.saturating_mul(disk.f_bavail)))
}

/// The machine's name.
pub(crate) fn machine() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        assert!(memory_bytes() > 100_000);
        assert!(cpu_seconds() >= 0.0);
        assert!(disk_bytes(Path::new(env!("CARGO_MANIFEST_DIR"))) > 100_000);
        assert_eq!(disk_bytes(Path::new("/nowhere")), 0);
        let (all, free) = disk_room(Path::new("/")).unwrap();
        assert!(free <= all && all > 1_000_000, "{free} of {all}");
        assert_eq!(disk_room(Path::new("/nowhere")), None);
    }
}
