//! What a run is told, judged: every error names the variable and what it should be.

use std::{path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use chrono_tz::Tz;
use mapa_refresh_crds::{
    area, labels,
    policy::{DatabaseKind, Plausibility, TaskName, UnknownTask},
    runner_env as env,
};

use crate::{
    args::SettingArgs,
    database::{
        Reading,
        name::{ColumnNames, NameError, ViewName},
    },
    domain::{
        area::{Area, AreaError},
        outage::Intake,
    },
    task::slot::Slot,
};

/// What a run is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which task.
    pub task: TaskName,
    /// Namespace and name of the policy, `namespace/name`: the owner of what is published.
    pub owner: Option<String>,
    /// Where the outages are read.
    pub database: DatabaseSettings,
    /// Where the documents are published.
    pub cache: CacheSettings,
    /// Zone of DATE columns.
    pub zone: Tz,
    /// Bounding box and municipalities.
    pub area: Arc<Area>,
    /// Minutes between two slots.
    pub interval_minutes: u32,
    /// Oldest that view and documents may be.
    pub max_data_age: Duration,
    /// The policy's tasks that publish: their documents must be there.
    pub publishers: Vec<TaskName>,
    /// What is too doubtful to be published at once.
    pub plausibility: Plausibility,
    /// Name of this run's Job; `None` when it was started without Kubernetes.
    pub job: Option<String>,
    /// This run's slot; `None` for runs by hand and rescues.
    pub slot: Option<Slot>,
    /// The view's slot that this run waits for; `None` when it does not wait.
    pub view_slot: Option<Slot>,
    /// Attempts and their limits.
    pub retry: RetrySettings,
}

/// Where the outages are read.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// Kind of database.
    pub kind: DatabaseKind,
    /// The view.
    pub view: ViewName,
    /// Its columns.
    pub columns: ColumnNames,
    /// Where its Secret is mounted.
    pub secret_dir: PathBuf,
    /// Authorities for a Secret without its own; absent: the public ones.
    pub ca_bundle: Option<PathBuf>,
    /// Directory with a wallet for a Secret without one.
    pub wallet_dir: Option<PathBuf>,
}

/// Where the documents are published.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Prefix of the keys.
    pub key_prefix: String,
    /// Where its Secret is mounted.
    pub secret_dir: PathBuf,
    /// Authorities for a Secret without its own; absent: the public ones.
    pub ca_bundle: Option<PathBuf>,
}

/// Attempts and their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Retries after the first attempt.
    pub max_retries: usize,
    /// Between two attempts.
    pub delay: Duration,
    /// Limit of one attempt.
    pub attempt_timeout: Duration,
    /// Limit of the whole run.
    pub run_budget: Duration,
}

/// A setting that can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingError {
    /// Absent, and without a default.
    #[error("{variable} is not set: it should be {expected}")]
    Missing {
        /// The environment variable.
        variable: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Not what it should be.
    #[error("{variable} is {value:?}: it should be {expected}")]
    Malformed {
        /// The environment variable.
        variable: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// The name of the view or of a column can't be one.
    #[error("{variable}: {source}")]
    Name {
        /// The environment variable.
        variable: &'static str,
        /// Why.
        source: NameError,
    },
    /// The area is not known, or its definition is none.
    #[error("{}: {source}", env::AREA)]
    Area {
        /// Which, and what it should be.
        #[from]
        source: AreaError,
    },
}

impl Settings {
    /// Judges `args`.
    ///
    /// # Errors
    /// The first setting that can't be used.
    pub fn judge(task: TaskName, args: &SettingArgs) -> Result<Self, SettingError> {
        let name = given(&args.policy_name);
        let interval_minutes = number(env::INTERVAL_MINUTES, &args.interval_minutes, 10, 1, 30)?;
        let slot = given(&args.job_name).and_then(|job| Slot::of_job(job, name, task));
        Ok(Self {
            task,
            owner: owner(task, args)?,
            publishers: publishers(args)?,
            database: DatabaseSettings {
                kind: kind(given(&args.database_kind).unwrap_or("oracle"))?,
                view: ViewName::parse(given(&args.database_view).unwrap_or("RADAR.MV_PORTAL_PUBLICO")).map_err(
                    |source| SettingError::Name {
                        variable: env::DATABASE_VIEW,
                        source,
                    },
                )?,
                columns: ColumnNames::parse(given(&args.database_columns).unwrap_or_default()).map_err(|source| {
                    SettingError::Name {
                        variable: env::DATABASE_COLUMNS,
                        source,
                    }
                })?,
                secret_dir: args.database_secret_dir.clone(),
                ca_bundle: args.ca_bundle.clone(),
                wallet_dir: args.wallet_dir.clone(),
            },
            cache: CacheSettings {
                key_prefix: key_prefix(args)?,
                secret_dir: args.cache_secret_dir.clone(),
                ca_bundle: args.ca_bundle.clone(),
            },
            zone: zone(given(&args.time_zone).unwrap_or("America/Boa_Vista"))?,
            area: Arc::new(Area::new(
                given(&args.area).unwrap_or(area::RR),
                given(&args.area_definition),
            )?),
            interval_minutes,
            max_data_age: minutes(number(
                env::MAX_DATA_AGE_MINUTES,
                &args.max_data_age_minutes,
                30,
                1,
                30,
            )?),
            plausibility: plausibility(args)?,
            job: given(&args.job_name).map(str::to_owned),
            slot,
            view_slot: view_slot(task, args, slot)?,
            retry: retry(task, args, interval_minutes)?,
        })
    }
}

impl Settings {
    /// The outages of a view that was read at `reading`, of which no row has come yet.
    #[must_use]
    pub fn no_outages(&self, reading: &Reading) -> Intake {
        Intake::new(reading.stamp, self.zone, Arc::clone(&self.area))
    }
}

fn owner(task: TaskName, args: &SettingArgs) -> Result<Option<String>, SettingError> {
    match (given(&args.policy_namespace), given(&args.policy_name)) {
        (Some(namespace), Some(name)) => Ok(Some(format!("{namespace}/{name}"))),
        _ if task == TaskName::RefreshMvPortal => Ok(None),
        (None, _) => Err(SettingError::Missing {
            variable: env::POLICY_NAMESPACE,
            expected: "the policy's namespace",
        }),
        (_, None) => Err(SettingError::Missing {
            variable: env::POLICY_NAME,
            expected: "the policy's name",
        }),
    }
}

fn kind(text: &str) -> Result<DatabaseKind, SettingError> {
    [DatabaseKind::Oracle, DatabaseKind::Postgresql]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| malformed(env::DATABASE_KIND, text, "oracle or postgresql"))
}

fn key_prefix(args: &SettingArgs) -> Result<String, SettingError> {
    let prefix = given(&args.cache_key_prefix).unwrap_or("mapa");
    let begins = prefix.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let goes_on = prefix
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b":_-".contains(&b));
    if begins && goes_on && prefix.len() <= 63 {
        Ok(prefix.to_owned())
    } else {
        Err(malformed(
            env::CACHE_KEY_PREFIX,
            prefix,
            "1 to 63 of a-z, 0-9, ':', '_' and '-', the first a letter or digit",
        ))
    }
}

fn zone(name: &str) -> Result<Tz, SettingError> {
    Tz::from_str(name).map_err(|_| malformed(env::TIME_ZONE, name, "an IANA zone such as America/Boa_Vista"))
}

fn view_slot(task: TaskName, args: &SettingArgs, slot: Option<Slot>) -> Result<Option<Slot>, SettingError> {
    if task == TaskName::RefreshMvPortal || given(&args.view_slot_lead_minutes).is_none() {
        return Ok(None);
    }
    let lead = number(env::VIEW_SLOT_LEAD_MINUTES, &args.view_slot_lead_minutes, 0, 0, 60)?;
    Ok(slot.map(|slot| slot.earlier_by(lead)))
}

fn publishers(args: &SettingArgs) -> Result<Vec<TaskName>, SettingError> {
    let tasks = match given(&args.policy_tasks) {
        None => TaskName::ALL.to_vec(),
        Some(names) => names
            .split(',')
            .map(|name| {
                name.parse().map_err(|unknown: UnknownTask| SettingError::Malformed {
                    variable: env::POLICY_TASKS,
                    value: names.to_owned(),
                    expected: unknown.to_string(),
                })
            })
            .collect::<Result<_, _>>()?,
    };
    Ok(tasks.into_iter().filter(|task| task.publishes()).collect())
}

fn plausibility(args: &SettingArgs) -> Result<Plausibility, SettingError> {
    let default = Plausibility::default();
    let percent = number(
        env::MAX_DROP_PERCENT,
        &args.max_drop_percent,
        default.max_drop_percent.unsigned_abs(),
        1,
        100,
    )?;
    let outages = number(
        env::MAX_DROP_OUTAGES,
        &args.max_drop_outages,
        default.max_drop_outages.unsigned_abs(),
        0,
        1_000_000,
    )?;
    let quarantined = number(
        env::MAX_QUARANTINED_PERCENT,
        &args.max_quarantined_percent,
        default.max_quarantined_percent.unsigned_abs(),
        0,
        100,
    )?;
    Ok(Plausibility {
        max_drop_percent: i32::try_from(percent).unwrap_or(i32::MAX),
        max_drop_outages: i32::try_from(outages).unwrap_or(i32::MAX),
        max_quarantined_percent: i32::try_from(quarantined).unwrap_or(i32::MAX),
    })
}

fn retry(task: TaskName, args: &SettingArgs, interval_minutes: u32) -> Result<RetrySettings, SettingError> {
    let defaults = task.defaults();
    let default = |number: i32| u32::try_from(number).unwrap_or_default();
    let max_retries = number(
        env::MAX_RETRIES,
        &args.max_retries,
        default(defaults.max_retries),
        0,
        10,
    )?;
    let delay = number(
        env::RETRY_DELAY_SECONDS,
        &args.retry_delay_seconds,
        default(defaults.retry_delay_seconds),
        0,
        600,
    )?;
    let timeout = default(defaults.attempt_timeout_seconds);
    let timeout = number(
        env::ATTEMPT_TIMEOUT_SECONDS,
        &args.attempt_timeout_seconds,
        timeout,
        1,
        1_500,
    )?;
    let budget = number(
        env::RUN_BUDGET_SECONDS,
        &args.run_budget_seconds,
        60 * interval_minutes - 30,
        1,
        86_400,
    )?;
    Ok(RetrySettings {
        max_retries: max_retries as usize,
        delay: Duration::from_secs(delay.into()),
        attempt_timeout: Duration::from_secs(timeout.into()),
        run_budget: Duration::from_secs(budget.into()),
    })
}

fn number(
    variable: &'static str,
    text: &Option<String>,
    default: u32,
    min: u32,
    max: u32,
) -> Result<u32, SettingError> {
    let Some(text) = given(text) else { return Ok(default) };
    text.parse()
        .ok()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| malformed(variable, text, &format!("an integer from {min} to {max}")))
}

fn minutes(minutes: u32) -> Duration {
    Duration::from_secs(u64::from(minutes) * 60)
}

fn malformed(variable: &'static str, value: &str, expected: &str) -> SettingError {
    SettingError::Malformed {
        variable,
        value: value.chars().take(80).collect(),
        expected: expected.to_owned(),
    }
}

/// An empty variable is an absent one: a template that has nothing to say says "".
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// Name of the CronJob of `task`, when the policy's name is known.
pub(crate) fn cron_job(policy: Option<&str>, task: TaskName) -> Option<String> {
    policy.map(|policy| labels::cron_job_name(policy, task))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> SettingArgs {
        SettingArgs {
            policy_namespace: Some("radar".into()),
            policy_name: Some("roraima".into()),
            ..SettingArgs::default()
        }
    }

    #[test]
    fn what_is_absent_takes_the_policys_defaults() {
        let settings = Settings::judge(TaskName::RefreshMvPortal, &args()).unwrap();
        assert_eq!(settings.owner.as_deref(), Some("radar/roraima"));
        assert_eq!(settings.cache.key_prefix, "mapa");
        assert_eq!(settings.zone, chrono_tz::America::Boa_Vista);
        assert_eq!(
            settings.retry,
            RetrySettings {
                max_retries: 3,
                delay: Duration::from_secs(120),
                attempt_timeout: Duration::from_secs(300),
                run_budget: Duration::from_secs(570),
            }
        );
        assert_eq!(
            Settings::judge(TaskName::HealthCheck, &args()).unwrap().retry.delay,
            Duration::from_secs(60)
        );
    }

    #[test]
    fn a_wrong_setting_names_its_variable_and_what_it_should_be() {
        type Spoil = fn(&mut SettingArgs);
        let cases: [(Spoil, &str); 9] = [
            (|a| a.policy_name = None, "MAPA_POLICY_NAME is not set"),
            (
                |a| a.database_kind = Some("mysql".into()),
                "MAPA_DATABASE_KIND is \"mysql\": it should be oracle or postgresql",
            ),
            (|a| a.database_view = Some("a;drop".into()), "MAPA_DATABASE_VIEW"),
            (|a| a.database_columns = Some("ident=x".into()), "MAPA_DATABASE_COLUMNS"),
            (|a| a.cache_key_prefix = Some("MAPA".into()), "MAPA_CACHE_KEY_PREFIX"),
            (|a| a.time_zone = Some("America/Boa Vista".into()), "MAPA_TIME_ZONE"),
            (|a| a.area = Some("AM".into()), "MAPA_AREA"),
            (
                |a| a.max_retries = Some("-1".into()),
                "MAPA_MAX_RETRIES is \"-1\": it should be an integer from 0 to 10",
            ),
            (|a| a.interval_minutes = Some("31".into()), "MAPA_INTERVAL_MINUTES"),
        ];
        for (spoil, expected) in cases {
            let mut args = args();
            spoil(&mut args);
            let error = Settings::judge(TaskName::RefreshMapaCache, &args)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn only_a_run_with_a_slot_and_a_view_task_waits_for_the_view() {
        let mut args = args();
        args.job_name = Some("roraima-refresh-mapa-cache-29924341".into());
        let judge = |args: &SettingArgs| Settings::judge(TaskName::RefreshMapaCache, args).unwrap();
        assert_eq!(judge(&args).view_slot, None, "no view task");
        args.view_slot_lead_minutes = Some("1".into());
        assert_eq!(judge(&args).view_slot, judge(&args).slot.map(|slot| slot.earlier_by(1)));
        args.job_name = Some("roraima-refresh-mapa-cache-by-hand".into());
        assert_eq!(judge(&args).view_slot, None, "by hand");
    }
}
