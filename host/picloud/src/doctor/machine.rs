//! The machine: processor, memory, kernel, bounds.

use std::{fs, thread};

use rustix::process::{Resource, getrlimit};
use serde::Serialize;

/// Below this much memory the defaults are too large.
const LEAST_MEMORY: u64 = 900 << 20;

/// Below this many open files a server with many scripts runs out.
const LEAST_FILES: u64 = 4096;

/// What the machine has.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    architecture: &'static str,
    kernel: String,
    cpus: usize,
    cpu_model: Option<String>,
    memory_bytes: Option<u64>,
    /// Bits of a process's address space; a pool of instances needs much of it.
    address_bits: Option<u32>,
    /// Files that a process may open; null where there is no bound.
    open_files: Option<u64>,
}

impl Machine {
    /// Looks at the machine, and remarks on what is scarce.
    pub(super) fn look(remarks: &mut Vec<String>) -> Self {
        let uname = rustix::system::uname();
        let kernel = format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy());
        let machine = Self {
            architecture: std::env::consts::ARCH,
            kernel,
            cpus: thread::available_parallelism().map_or(1, usize::from),
            cpu_model: cpu_field("model name").or_else(|| cpu_field("Model")),
            memory_bytes: memory_bytes(),
            address_bits: address_bits(),
            // The server raises its soft bound to the hard one.
            open_files: getrlimit(Resource::Nofile).maximum,
        };
        if machine.memory_bytes.is_some_and(|bytes| bytes < LEAST_MEMORY) {
            remarks.push(
                "less than 1 GB of memory: lower PICLOUD_CONCURRENCY and PICLOUD_IMAGE_MEMORY_BYTES".into(),
            );
        }
        if machine.open_files.is_some_and(|files| files < LEAST_FILES) {
            remarks
                .push("few files may be open at once: raise the hard limit (LimitNOFILE, ulimit -Hn)".into());
        }
        machine
    }

    /// One line for people.
    pub(super) fn text(&self) -> String {
        let model = self.cpu_model.as_ref().map(|model| format!(" ({model})")).unwrap_or_default();
        let memory =
            self.memory_bytes.map(|bytes| format!(", {} MiB of memory", bytes >> 20)).unwrap_or_default();
        let bits = self.address_bits.map(|bits| format!(", {bits}-bit addresses")).unwrap_or_default();
        let files = self.open_files.map_or_else(|| "unbounded".to_owned(), |files| files.to_string());
        let (cpus, kernel, architecture) = (self.cpus, &self.kernel, self.architecture);
        format!("{cpus} CPUs{model}{memory}, {kernel} {architecture}{bits}, {files} open files")
    }
}

fn memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn cpu_field(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The highest mapped address shows how large the address space is: the stack is near its end.
fn address_bits() -> Option<u32> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let stack = maps.lines().find(|line| line.ends_with("[stack]"))?;
    let (_, end) = stack.split_whitespace().next()?.split_once('-')?;
    Some(64 - u64::from_str_radix(end, 16).ok()?.leading_zeros())
}
