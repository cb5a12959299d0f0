//! systemd's units (org.freedesktop.systemd1(5)).

use super::{Object, ServiceError, refused};
use futures_util::StreamExt;
use std::time::Duration;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

const NAME: &str = "org.freedesktop.systemd1";
const ROOT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";

/// Longer than systemd itself waits for a unit (DefaultTimeoutStartSec, 90 s).
const PATIENCE: Duration = Duration::from_secs(100);

/// How a unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitState {
    /// `loaded`, `not-found`, `masked`, `bad-setting`.
    pub load: String,
    /// `active`, `activating`, `inactive`, `failed`.
    pub active: String,
    /// `running`, `auto-restart`.
    pub sub: String,
    /// Why it failed: `exit-code`, `timeout`, `resources`; `success` if it did not.
    pub result: String,
    /// The exit status of its main process, if that has ended.
    pub exit: Option<i32>,
}

impl UnitState {
    /// What a person makes of it.
    fn explain(&self) -> String {
        match self.load.as_str() {
            "loaded" => {}
            "not-found" => return "there is no such unit".into(),
            other => return format!("the unit is {other}"),
        }
        let exit = match self.exit {
            // EXIT_EXEC (systemd.exec(5)).
            Some(203) => ", its program can't be run (status 203)".to_owned(),
            Some(status) => format!(", its program ended with status {status}"),
            None => String::new(),
        };
        format!("it is {} ({}), {}{exit}", self.active, self.sub, self.result)
    }
}

/// How a unit is.
///
/// # Errors
/// If systemd is not on the bus.
pub async fn unit_state(bus: &Connection, unit: &str) -> Result<UnitState, ServiceError> {
    let manager = Object::find(bus, NAME, ROOT).await?;
    let doing = format!("asking for {unit}");
    let reply = manager.call(&doing, MANAGER, "LoadUnit", &unit).await?;
    let path: OwnedObjectPath = reply.body().deserialize().map_err(|error| refused(&doing, &error))?;
    let object = manager.at(&path);
    let number = |value: Option<zbus::OwnedVariant>| value.and_then(|value| i32::try_from(value).ok());
    // CLD_EXITED, CLD_KILLED, CLD_DUMPED: 0 while it has not ended.
    let ended = number(object.get(SERVICE, "ExecMainCode").await.ok()).is_some_and(|code| code != 0);
    Ok(UnitState {
        load: object.text(UNIT, "LoadState").await,
        active: object.text(UNIT, "ActiveState").await,
        sub: object.text(UNIT, "SubState").await,
        result: object.text(SERVICE, "Result").await,
        exit: if ended { number(object.get(SERVICE, "ExecMainStatus").await.ok()) } else { None },
    })
}

/// Starts a unit and waits until that is done; at once if it is running.
///
/// # Errors
/// If it fails, with what systemd knows of it.
pub async fn start_unit(bus: &Connection, unit: &str) -> Result<(), ServiceError> {
    let manager = Object::find(bus, NAME, ROOT).await?;
    let doing = format!("starting {unit}");
    let broken = |error: zbus::Error| refused(&doing, &error);
    let rule = MatchRule::builder().msg_type(Type::Signal).path(ROOT).interface(MANAGER).member("JobRemoved").build();
    let mut jobs = MessageStream::for_match_rule(rule.map_err(broken)?, bus, None).await.map_err(broken)?;
    // systemd signals only to who subscribed; that we did already is no error worth a word.
    let _ = manager.call(&doing, MANAGER, "Subscribe", &()).await;
    let reply = match manager.call(&doing, MANAGER, "StartUnit", &(unit, "replace")).await {
        Ok(reply) => reply,
        Err(ServiceError::Refused { why, .. }) => return Err(ServiceError::UnitFailed { unit: unit.into(), why }),
        Err(other) => return Err(other),
    };
    let job: OwnedObjectPath = reply.body().deserialize().map_err(broken)?;
    let finished = async {
        while let Some(Ok(message)) = jobs.next().await {
            if let Ok((_, removed, _, result)) = message.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
                && removed == job
            {
                return Some(result);
            }
        }
        None
    };
    let result = match tokio::time::timeout(PATIENCE, finished).await {
        Ok(Some(result)) => result,
        Ok(None) => return Err(ServiceError::Bus(format!("it closed while {unit} was starting"))),
        Err(_) => "timeout".into(),
    };
    if result == "done" {
        return Ok(());
    }
    let why = match unit_state(bus, unit).await {
        Ok(state) => format!("{result}; {}", state.explain()),
        Err(_) => result,
    };
    Err(ServiceError::UnitFailed { unit: unit.into(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_unit_is_explained() {
        let state = |load: &str, exit| UnitState {
            load: load.into(),
            active: "failed".into(),
            sub: "failed".into(),
            result: "exit-code".into(),
            exit,
        };
        assert_eq!(state("not-found", None).explain(), "there is no such unit");
        assert!(state("loaded", Some(203)).explain().contains("can't be run"));
        assert_eq!(
            state("loaded", Some(255)).explain(),
            "it is failed (failed), exit-code, its program ended with status 255"
        );
    }
}
