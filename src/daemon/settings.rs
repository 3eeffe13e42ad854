//! From the configuration to each part's own settings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Gid;

use crate::client::guard;
use crate::config::{Config, Dialects, EgressTarget, Group, Tenants, Who};
use crate::model::mask::PayloadMask;
use crate::model::{EventTypes, Schedule};
use crate::{api, client, engine, http, ingest, service, store, ui};

use super::{StartError, drawn};

/// Every part's settings.
pub struct Settings {
    pub(super) store: StoreSettings,
    pub(super) client: client::Settings,
    pub(super) engine: engine::Settings,
    pub(super) service: ServiceSettings,
    pub(super) ingest: ingest::Settings,
    pub(super) api: api::Settings,
    pub(super) ui: ui::Settings,
    pub(super) http: http::serve::Settings,
    pub(super) disk_reserve: u64,
}

/// The store's settings but for its keys, which only a start reads.
pub(super) struct StoreSettings {
    pub(super) config: crate::config::Store,
    pub(super) queue_bytes_max: usize,
    pub(super) event_types: Arc<EventTypes>,
}

impl StoreSettings {
    /// The store's settings, with its keys.
    pub(super) fn with(&self, keys: store::Keys) -> store::Settings {
        store::Settings {
            cache_bytes: size(self.config.cache.bytes()),
            queue_bytes_max: self.queue_bytes_max,
            event_types: Arc::clone(&self.event_types),
            ..store::Settings::at(&self.config.path, keys)
        }
    }
}

/// The configured part of the service's settings.
pub(super) struct ServiceSettings {
    pub(super) pending_max: u64,
    pub(super) schedules: HashMap<String, Schedule>,
    pub(super) schedule: String,
    pub(super) confirmation: service::ConfirmationSettings,
    pub(super) mask: PayloadMask,
    pub(super) proof_lasts: Duration,
}

impl Settings {
    /// The settings that a configuration asks for.
    pub fn of(config: &Config) -> Result<Self, StartError> {
        let line_max = size(config.ingest.line_max.bytes());
        let schedules: HashMap<_, _> =
            config.schedules.iter().map(|(name, schedule)| (name.clone(), schedule.clone())).collect();
        let prefix: [u8; 4] = drawn()?;
        let http = http::serve::Settings {
            request_id_prefix: crate::model::id::hex(&prefix),
            ..http::serve::Settings::default()
        };
        Ok(Settings {
            store: StoreSettings {
                config: config.store.clone(),
                // A line of any allowed length must fit.
                queue_bytes_max: size(config.ingest.queue_max.bytes()).max(line_max),
                event_types: Arc::new(config.events.types.clone()),
            },
            client: client_settings(config)?,
            engine: engine::Settings {
                timeout: config.delivery.timeout,
                in_flight_max: config.delivery.in_flight_max,
                in_flight_total: config.delivery.in_flight_total as usize,
                schedules: schedules.clone(),
                schedule: config.delivery.schedule.clone(),
                breaker: engine::BreakerSettings {
                    failures_max: config.delivery.breaker_failures,
                    shut_for: config.delivery.breaker_delay,
                },
                confirmation: config.confirmation.mode,
                retention: engine::Retention {
                    events: config.retention.events,
                    attempts: config.retention.attempts,
                    audit: config.retention.audit,
                },
                ..engine::Settings::default()
            },
            service: ServiceSettings {
                pending_max: config.ingest.pending_max,
                schedules,
                schedule: config.delivery.schedule.clone(),
                confirmation: service::ConfirmationSettings {
                    mode: config.confirmation.mode,
                    reset_on_url_change: config.confirmation.reset_on_url_change,
                },
                mask: config.events.mask.clone(),
                proof_lasts: config.admin.proof_lasts,
            },
            ingest: ingest::Settings {
                line_max,
                connections_max: config.ingest.connections_max as usize,
                allow: allow_rules(config)?,
                http: http.clone(),
            },
            api: api::Settings {
                limits: api::native::destination::Limits { url_chars_max: config.limits.url_chars_max as usize },
                events_bytes_max: line_max,
                dialects: Arc::new(dialects(config)),
                ..api::Settings::default()
            },
            ui: ui::Settings {
                hosts: config.admin.hosts.iter().map(|name| name.as_str().to_owned()).collect(),
                tls: config.admin.tls.is_some(),
                ..ui::Settings::default()
            },
            http,
            disk_reserve: config.limits.disk_reserve.bytes(),
        })
    }
}

fn dialects(config: &Config) -> api::dialects::Settings {
    let Dialects { backoffice, subscribe } = &config.dialects;
    let switches = [("backoffice", backoffice.enabled), ("subscribe", subscribe.enabled)];
    let off = switches.iter().filter(|(_, enabled)| !enabled).map(|(name, _)| (*name).to_owned()).collect();
    let types = backoffice.types.0.iter().map(|(code, kind)| (*code, kind.clone()));
    api::dialects::Settings { off, types: api::dialects::backoffice::Types::with(types) }
}

fn client_settings(config: &Config) -> Result<client::Settings, StartError> {
    let allow = config.egress.allow.iter().map(|target| match target {
        EgressTarget::Net(net) => net.to_string(),
        EgressTarget::Name(name) => name.as_str().to_owned(),
    });
    let rules = config.egress.rules.iter().map(|rule| guard::Rule {
        tenant: rule.tenant.clone(),
        cidr: rule.cidr,
        host: rule.host.as_ref().map(|host| host.as_str().to_owned()),
        ports: rule.ports.iter().map(|range| (*range.start(), *range.end())).collect(),
    });
    let guard = guard::Settings {
        allow: allow.collect(),
        allow_loopback: config.egress.allow_loopback,
        allow_http: config.egress.allow_http,
        rules: rules.collect(),
        url_chars_max: config.limits.url_chars_max as usize,
        own: Vec::new(),
    };
    // For `check`: what is wrong is said without starting anything.
    guard::Guard::new(guard.clone())?;
    let proxy = config.delivery.proxy.as_ref().map(|proxy| proxy.expose().parse()).transpose();
    Ok(client::Settings {
        connect_timeout: config.delivery.connect_timeout,
        tls_timeout: config.delivery.tls_timeout,
        head_timeout: config.delivery.head_timeout,
        idle_total_max: config.delivery.in_flight_total as usize,
        source_address: config.delivery.source_address,
        ca: config.egress.ca.clone(),
        proxy: proxy.map_err(StartError::Proxy)?,
        guard,
        ..client::Settings::default()
    })
}

fn allow_rules(config: &Config) -> Result<Vec<ingest::Rule>, StartError> {
    let rule = |rule: &crate::config::IngestRule| {
        let who = match &rule.who {
            Who::Uid(uid) => ingest::Who::Uid(*uid),
            Who::Group(name) => ingest::Who::Gid(gid(name)?.as_raw()),
        };
        let tenants = match &rule.tenants {
            Tenants::All => Vec::new(),
            Tenants::Only(tenants) => tenants.clone(),
        };
        Ok(ingest::Rule { who, tenants })
    };
    config.ingest.allow.iter().map(rule).collect()
}

/// The group of the configuration, by number.
pub(super) fn group(group: Option<&Group>) -> Result<Option<Gid>, StartError> {
    group.map(gid).transpose()
}

fn gid(group: &Group) -> Result<Gid, StartError> {
    let name = match group {
        Group::Id(gid) => return Ok(Gid::from_raw(*gid)),
        Group::Name(name) => name,
    };
    let failed = |why: String| StartError::Group { name: name.clone(), why };
    match nix::unistd::Group::from_name(name) {
        Ok(Some(found)) => Ok(found.gid),
        Ok(None) => Err(failed("there is none of this name".into())),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
