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

/// Time that the processors of this machine have worked, in ticks of the system, since some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProcessorTime {
    /// For whatever program, or for another machine on the same processors.
    busy: u64,
    /// For this process.
    own: u64,
    /// Busy or not.
    all: u64,
}

impl ProcessorTime {
    /// Until now, where the system says.
    pub(crate) fn now() -> Option<Self> {
        Self::of(&fs::read_to_string("/proc/stat").ok()?, &fs::read_to_string("/proc/self/stat").ok()?)
    }

    /// From the texts of `/proc/stat` and `/proc/self/stat`.
    fn of(machine: &str, process: &str) -> Option<Self> {
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted in user and nice.
        let fields = machine.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
        let fields = fields.map(|field| field.parse().ok()).collect::<Option<Vec<u64>>>()?;
        let all = fields.iter().sum();
        // The program's name is in brackets and may have spaces; the times are 11 and 12 fields behind it.
        let behind = process.rsplit_once(')')?.1.split_whitespace().skip(11).take(2);
        let own = behind.map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
        Some(Self { busy: all - fields.get(3)? - fields.get(4)?, own, all })
    }

    /// The share of the processors, from 0 to 1, that others took between `before` and this moment.
    pub(crate) fn taken_by_others(self, before: Self) -> f64 {
        let since = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let others = since(self.busy, before.busy) - since(self.own, before.own);
        // The two texts are read one after the other.
        (others / since(self.all, before.all).max(1.0)).clamp(0.0, 1.0)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_take_of_the_processors() {
        let at = |user: u64, idle: u64, own: u64| {
            let machine = format!("cpu  {user} 0 10 {idle} 5 0 0 2 3 0\ncpu0 1 2 3\n");
            let process = format!("7 (a (b) c) R 1 2 3 4 5 6 7 8 9 10 {own} 20 0 0 20\n");
            ProcessorTime::of(&machine, &process)
        };
        let (Some(before), Some(after)) = (at(100, 400, 30), at(250, 450, 80)) else { panic!("not read") };
        // 200 ticks, 150 of them busy, 50 of these for this process.
        assert_eq!(after.taken_by_others(before), 0.5);
        assert_eq!(before.taken_by_others(before), 0.0);
        assert!(ProcessorTime::of("intr 1", "7 (a) R").is_none());
    }
}
