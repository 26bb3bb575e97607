//! Which machine computes, in words.

use std::fs;

/// Processor, cores, memory and system: `AMD EPYC 9B14, 2 cores, 23.5 GiB, linux x86_64`. What the system
/// does not tell is left out.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let cores = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let memory = kib("MemTotal:").map(|kib| format!("{:.1} GiB", kib as f64 / f64::from(1 << 20)));
    [processor(), Some(cores), memory, Some(system)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Memory in MiB that a new process could take now, where the system says.
pub(crate) fn available_mib() -> Option<u64> {
    kib("MemAvailable:").map(|kib| kib / 1024)
}

/// The processor's name; Linux has it for x86.
fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let (_, name) =
        text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == "model name"))?;
    Some(name.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A field of `/proc/meminfo`.
fn kib(field: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    text.lines().find_map(|line| line.strip_prefix(field))?.trim().strip_suffix(" kB")?.parse().ok()
}
