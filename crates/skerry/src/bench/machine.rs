//! What the machine is, who else used it meanwhile, and what a process took: all read from `/proc`.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// The machine, so that a figure can be judged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) processor: String,
    pub(super) memory_gib: f64,
    pub(super) kernel: String,
    pub(super) file_system: String,
}

impl Machine {
    /// This machine; `folder` is where the data will lie.
    pub(super) fn here(folder: &Path) -> anyhow::Result<Self> {
        let processors = std::fs::read_to_string("/proc/cpuinfo").context("could not read the processors")?;
        let memory = std::fs::read_to_string("/proc/meminfo").context("could not read the memory")?;
        let kernel =
            std::fs::read_to_string("/proc/sys/kernel/osrelease").context("could not read the kernel")?;
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: field(&processors, "model name").unwrap_or("unknown").to_owned(),
            memory_gib: (kibibytes(&memory, "MemTotal").unwrap_or(0) as f64 / 1_048_576.0 * 10.0).round()
                / 10.0,
            kernel: kernel.trim().to_owned(),
            file_system: file_system(folder)?.to_owned(),
        })
    }
}

/// The kind of file system that holds `folder`, as far as it matters here.
pub(super) fn file_system(folder: &Path) -> anyhow::Result<&'static str> {
    let facts = rustix::fs::statfs(folder)
        .with_context(|| format!("could not look at the file system of {}", folder.display()))?;
    Ok(match u64::try_from(facts.f_type).unwrap_or(0) & 0xffff_ffff {
        0x0102_1994 => "tmpfs",
        0x8584_58f6 => "ramfs",
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x2fc1_2fc1 => "zfs",
        0x794c_7630 => "overlay",
        0xf2f5_2010 => "f2fs",
        _ => "another",
    })
}

/// Whether what is written there is lost with the power.
pub(super) fn lies_in_memory(file_system: &str) -> bool {
    matches!(file_system, "tmpfs" | "ramfs")
}

/// Bytes that can still be written to the file system of `folder`.
pub(super) fn free_bytes(folder: &Path) -> anyhow::Result<u64> {
    let facts = rustix::fs::statvfs(folder)
        .with_context(|| format!("could not look at the file system of {}", folder.display()))?;
    Ok(facts.f_bavail * facts.f_frsize)
}

/// CPU seconds and memory of a process and its threads, children not.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
            resident_bytes: sum.resident_bytes + one.resident_bytes,
        })
    }
}

/// What the process `id` took so far; `None` when it is gone.
pub(super) fn usage(id: u32) -> Option<Usage> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let cpu_seconds = cpu_seconds(&stat)?;
    Some(Usage { cpu_seconds, resident_bytes: kibibytes(&status, "VmRSS")? * 1_024 })
}

/// The clock ticks that Linux shows to processes, whatever its own: 100 a second on every machine we build for.
const TICKS: f64 = 100.0;

/// User and system time of a line of `/proc/<pid>/stat` (proc(5), fields 14 and 15; the name may hold blanks).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS)
}

/// How busy the machine was with other things between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Contention {
    /// Load average of the last minute before and after.
    pub(super) load_before: f64,
    pub(super) load_after: f64,
    /// Share of all cores' time that went to processes other than those measured.
    pub(super) others_share: f64,
    /// Share that the machine below took away.
    pub(super) stolen_share: f64,
}

/// A moment to measure contention from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    started: Instant,
    busy_seconds: f64,
    stolen_seconds: f64,
    load: f64,
}

impl Watch {
    pub(super) fn start() -> Self {
        let (busy_seconds, stolen_seconds) = machine_seconds();
        Self { started: Instant::now(), busy_seconds, stolen_seconds, load: load_average() }
    }

    /// Contention since the start, when `measured_cpu_seconds` went to the processes measured.
    pub(super) fn contention(&self, measured_cpu_seconds: f64) -> Contention {
        let (busy, stolen) = machine_seconds();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all = (self.started.elapsed().as_secs_f64() * cores as f64).max(f64::MIN_POSITIVE);
        let share = |seconds: f64| ((seconds / all).clamp(0.0, 1.0) * 1e3).round() / 1e3;
        Contention {
            load_before: self.load,
            load_after: load_average(),
            others_share: share(busy - self.busy_seconds - measured_cpu_seconds),
            stolen_share: share(stolen - self.stolen_seconds),
        }
    }
}

/// Busy and stolen seconds of all cores since boot (proc(5), `/proc/stat`).
fn machine_seconds() -> (f64, f64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = text
        .lines()
        .next()
        .map(|line| line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect())
        .unwrap_or_default();
    let at = |index: usize| ticks.get(index).copied().unwrap_or(0) as f64 / TICKS;
    (at(0) + at(1) + at(2) + at(5) + at(6), at(7))
}

fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_even_if_its_name_is_odd() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 100 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("42 (x"), None);
        let own = usage(std::process::id()).unwrap();
        assert!(own.resident_bytes > 100_000, "{own:?}");
        assert_eq!(usage(u32::MAX), None);
    }

    #[test]
    fn memory_and_disks_are_told_apart() {
        assert!(lies_in_memory("tmpfs") && !lies_in_memory("ext4"));
        assert_eq!(file_system(Path::new("/dev/shm")).unwrap(), "tmpfs");
        assert!(free_bytes(Path::new("/")).unwrap() > 0);
        assert!(file_system(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn what_others_take_is_what_the_measured_did_not() {
        let watch = Watch::start();
        let own = usage(std::process::id()).unwrap().cpu_seconds;
        let mut sum = 0_u64;
        while watch.started.elapsed().as_millis() < 200 {
            sum = sum.wrapping_mul(31).wrapping_add(1);
        }
        let spent = usage(std::process::id()).unwrap().cpu_seconds - own;
        let alone = watch.contention(spent);
        let blamed = watch.contention(0.0);
        assert!(sum != 0 && alone.others_share <= blamed.others_share && blamed.others_share > 0.0);
    }
}
