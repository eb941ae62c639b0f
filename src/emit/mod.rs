//! A plan handed to a scheduler: the text of what it reads.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::night::Line;

/// Slurm refuses arrays with more tasks unless its MaxArraySize was raised.
const ARRAY: usize = 1000;

/// How tasks are given to machines.
#[derive(Debug, Clone)]
pub struct Options {
    /// The plan's file.
    pub plan: PathBuf,
    /// The program.
    pub program: PathBuf,
    /// GPUs of a task.
    pub gpus: u32,
    /// Cores of a task.
    pub cpus: u32,
    /// Tasks at once; none for as many as there is room for.
    pub at_once: Option<u32>,
}

/// A bash script that submits the tasks to Slurm: an array of jobs for each wave of the
/// plan, each after the one before.
pub fn slurm(lines: &[Line], options: &Options) -> Result<String> {
    let mut waves = String::new();
    let last = lines.iter().map(|l| l.wave).max().unwrap_or(0);
    for wave in 1..=last {
        let numbers: Vec<usize> =
            lines.iter().filter(|l| l.wave == wave && l.job.is_some()).map(|l| l.number).collect();
        for part in runs(&numbers) {
            waves += &format!("submit {} {}\n", part.0 - 1, part.1);
        }
        if !numbers.is_empty() {
            waves += "next_wave\n";
        }
    }
    let gres = if options.gpus == 0 { String::new() } else { format!("--gres=gpu:{}", options.gpus) };
    let text = include_str!("slurm.sh")
        .replace("@PLAN@", &quoted(&options.plan)?)
        .replace("@PROGRAM@", &quoted(&options.program)?)
        .replace("@GRES@", &gres)
        .replace("@CPUS@", &options.cpus.to_string())
        .replace("@AT_ONCE@", &options.at_once.map(|n| format!("%{n}")).unwrap_or_default())
        .replace("@TASKS@", &lines.iter().filter(|l| l.job.is_some()).count().to_string())
        .replace("@WAVES@", waves.trim_end());
    Ok(text)
}

/// Consecutive numbers as (first, how many), at most as many as an array holds.
fn runs(numbers: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &n in numbers {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == n && *count < ARRAY => *count += 1,
            _ => runs.push((n, 1)),
        }
    }
    runs
}

/// A Snakefile that does the tasks, on this machine or through any of Snakemake's
/// executors.
pub fn snakemake(options: &Options) -> Result<String> {
    let text = |path: &Path| {
        let text = path.to_str().ok_or_else(|| not_text(path))?;
        serde_json::to_string(text).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))
    };
    Ok(include_str!("Snakefile")
        .replace("@PLAN@", &text(&options.plan)?)
        .replace("@PROGRAM@", &text(&options.program)?)
        .replace("@GPUS@", &options.gpus.to_string())
        .replace("@CPUS@", &options.cpus.to_string()))
}

/// As bash reads it: one word, whatever is in it.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| not_text(path))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

fn not_text(path: &Path) -> Error {
    Error::Usage(format!("{}: its name is not text (UTF-8), which no scheduler can be told", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_of_consecutive_lines_and_no_longer_than_slurm_takes() {
        assert_eq!(runs(&[1, 2, 3, 5, 6]), [(1, 3), (5, 2)]);
        let many: Vec<usize> = (4..2104).collect();
        assert_eq!(runs(&many), [(4, 1000), (1004, 1000), (2004, 100)]);
    }

    #[test]
    fn names_stay_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's $HOME")).expect("quoted"), r"'/a b/it'\''s $HOME'");
    }
}
