//! `--shard I/N` and the engines that know the index themselves.

use std::str::FromStr;

use clap::ValueEnum;

use crate::suite::shards::Shard;

/// How `plan --shards` speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum JobFormat {
    /// What each part does.
    Text,
    /// A GitHub Actions workflow with a matrix.
    Github,
    /// A Slurm array job.
    Slurm,
    /// A Kubernetes indexed Job.
    Kubernetes,
}

/// A part by its number, or by what the engine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardWanted {
    /// `2/8`.
    Given(Shard),
    /// `auto/8`.
    Auto {
        /// Number of parts.
        of: usize,
    },
}

impl FromStr for ShardWanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("auto/") {
            None => text.parse().map(Self::Given),
            Some(of) => {
                let of = of.parse().map_err(|_| format!("`{text}` is no shard: wanted auto/N, such as auto/8"))?;
                Shard::new(1, of).map(|_| Self::Auto { of })
            }
        }
    }
}

impl ShardWanted {
    /// The part, with the environment's answer to a variable's name.
    ///
    /// Slurm counts from what `--array` says, so its first index counts as 1; Kubernetes counts from 0.
    ///
    /// # Errors
    /// If `auto` finds no variable, or one that is no number or beyond N.
    pub fn resolve(self, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Shard> {
        let of = match self {
            Self::Given(shard) => return Ok(shard),
            Self::Auto { of } => of,
        };
        let number = |name: &str| {
            let text = variable(name);
            let parse = |text: String| {
                text.trim().parse::<usize>().map_err(|_| anyhow::anyhow!("{name} is `{text}`, wanted a whole number"))
            };
            text.map(parse).transpose()
        };
        let index = match (number("SLURM_ARRAY_TASK_ID")?, number("JOB_COMPLETION_INDEX")?) {
            (Some(task), _) => {
                let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(1);
                task.checked_sub(first).map(|index| index + 1).unwrap_or(0)
            }
            (None, Some(index)) => index.saturating_add(1),
            (None, None) => anyhow::bail!(
                "--shard auto/{of}: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; outside of Slurm and \
                 Kubernetes write the number, such as --shard 1/{of}"
            ),
        };
        Shard::new(index, of).map_err(|why| anyhow::anyhow!("--shard auto/{of}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, environment: &[(&str, &str)]) -> Result<Shard, String> {
        let variable = |name: &str| environment.iter().find(|v| v.0 == name).map(|v| v.1.to_string());
        text.parse::<ShardWanted>()?.resolve(variable).map_err(|e| e.to_string())
    }

    #[test]
    fn the_engines_index_is_used_from_where_it_counts() {
        let shard = |index| Ok(Shard { index, of: 4 });
        assert_eq!(resolved("3/4", &[("JOB_COMPLETION_INDEX", "0")]), shard(3));
        assert_eq!(resolved("auto/4", &[("JOB_COMPLETION_INDEX", "0")]), shard(1));
        assert_eq!(resolved("auto/4", &[("SLURM_ARRAY_TASK_ID", "4")]), shard(4));
        assert_eq!(resolved("auto/4", &[("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_MIN", "0")]), shard(4));
        for (environment, why) in [
            (vec![], "neither SLURM_ARRAY_TASK_ID"),
            (vec![("SLURM_ARRAY_TASK_ID", "x")], "wanted a whole number"),
            (vec![("JOB_COMPLETION_INDEX", "4")], "counted from 1 to 4"),
        ] {
            assert!(resolved("auto/4", &environment).unwrap_err().contains(why), "{why}");
        }
        assert!(resolved("auto/0", &[]).unwrap_err().contains("wanted 1 to"));
        assert!(resolved("auto/x", &[]).unwrap_err().contains("auto/8"));
    }
}
