//! Source 000: `/api/{tenantslug}/webhooks`, where a tenant subscribes webhooks to one type of event each.
//!
//! Changes are commands: the answer says that one has been accepted, and `/api/{tenantslug}/commands/{fingerprint}` what became
//! of it. What could be seen at once to be wrong is refused at once, so a command fails only by what happened meanwhile.
//!
//! Names in bodies are read without regard to case, as the document writes them in two ways; answers are in camel case.

use std::collections::BTreeMap;

use ::http::Method;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{Dialect, act, change, destination, in_words, register, tenant, url};
use crate::api::caller::Caller;
use crate::api::door::Faults;
use crate::api::native::destination::{SHARED_SECRET_HEADER, password, sent_verbatim, username};
use crate::api::{Act, Call, known, native};
use crate::http::problem::{Problem, ProblemCode};
use crate::http::request::push_segment;
use crate::http::response::Response;
use crate::http::route::Route;
use crate::model::Role::{Operate, Read};
use crate::model::{
    Auth, Command, CommandId, CommandState, EventType, Invalid, Order, Registration, RegistrationChange, Secret,
    TenantId, TypePattern,
};

pub(super) const DIALECT: Dialect = Dialect { name: NAME, routes };

const NAME: &str = "backoffice";
const WEBHOOKS: &str = "/api/{tenantslug}/webhooks";
const WEBHOOK: &str = "/api/{tenantslug}/webhooks/{id}";
const COMMAND: &str = "/api/{tenantslug}/commands/{fingerprint}";
/// Native names of fields, and these.
const NAMES: [(&str, &str); 1] = [("/http_endpoint_url", "/DestinationURL")];

fn routes() -> Vec<Route<Act>> {
    vec![
        known(Method::GET, WEBHOOKS, Read, act!(list)),
        known(Method::POST, WEBHOOKS, Operate, act!(create)).with_body(),
        known(Method::GET, WEBHOOK, Read, act!(review)),
        known(Method::PUT, WEBHOOK, Operate, act!(update)).with_body(),
        known(Method::DELETE, WEBHOOK, Operate, act!(delete)),
        known(Method::GET, COMMAND, Read, act!(command)),
    ]
}

/// The types of webhooks: a number each, and the event type that it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Types(BTreeMap<u32, EventType>);

impl Types {
    /// Those of the document.
    pub const DOCUMENTED: [(u32, &str); 5] = [
        (4, "instructional_funding.submitted"),
        (5, "submerchant_deposit.rejected"),
        (6, "funding_deposit.funded"),
        (7, "funding_deposit.rejected"),
        (8, "funding_deposit.partially_rejected"),
    ];

    /// Those of the document and some more; a number of the document keeps its meaning.
    pub fn with(more: impl IntoIterator<Item = (u32, EventType)>) -> Self {
        let parsed = |name: &str| name.parse().expect("it is within the bounds of an event's type");
        let mut types: BTreeMap<u32, EventType> = more.into_iter().collect();
        types.extend(Types::DOCUMENTED.map(|(code, name)| (code, parsed(name))));
        Types(types)
    }

    fn pattern(&self, code: &Value) -> Result<TypePattern, Invalid> {
        let found = code.as_u64().and_then(|code| self.0.get(&u32::try_from(code).ok()?));
        let known = || self.0.iter().map(|(code, kind)| format!("{code} ({kind})")).collect::<Vec<_>>().join(", ");
        found.map(|kind| TypePattern::One(kind.clone())).ok_or_else(|| Invalid(format!("must be one of {}", known())))
    }

    fn code(&self, pattern: &TypePattern) -> Option<u32> {
        let is_it = |(_, kind): &(&u32, &EventType)| matches!(pattern, TypePattern::One(one) if one == *kind);
        self.0.iter().find(is_it).map(|(code, _)| *code)
    }
}

impl Default for Types {
    fn default() -> Self {
        Types::with([])
    }
}

/// The members of an object, each by the name that the document gives it.
#[derive(Debug, Default)]
struct Members(Vec<(&'static str, String, Value)>);

impl Members {
    /// Reads an object at `pointer`; `names` are those that it may have.
    fn of(object: Map<String, Value>, names: &[&'static str], pointer: &str, faults: &mut Faults) -> Self {
        let mut members: Vec<(&'static str, String, Value)> = Vec::new();
        for (name, value) in object {
            let mut at = pointer.to_owned();
            push_segment(&mut at, &name);
            match names.iter().find(|known| known.eq_ignore_ascii_case(&name)) {
                None => faults.note(at, format!("is no field; there are {}", names.join(", "))),
                Some(known) if members.iter().any(|(other, ..)| other == known) => {
                    faults.note(at, "stands there twice; the case of a name does not count");
                }
                Some(known) => members.push((*known, at, value)),
            }
        }
        Members(members)
    }

    /// The member of a name and its place as it was written; `None` when it is not there or null.
    fn take(&mut self, name: &str) -> Option<(String, Value)> {
        let place = self.0.iter().position(|(known, ..)| *known == name)?;
        let (_, at, value) = self.0.swap_remove(place);
        (!value.is_null()).then_some((at, value))
    }

    /// A text.
    fn text(&mut self, name: &str, faults: &mut Faults) -> Option<(String, String)> {
        match self.take(name)? {
            (at, Value::String(text)) => Some((at, text)),
            (at, _) => {
                faults.note(at, "is not a text");
                None
            }
        }
    }
}

/// The body of a create and of an update.
#[derive(Debug)]
struct WebhookRequest(Map<String, Value>);

impl<'de> Deserialize<'de> for WebhookRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(WebhookRequest)
    }
}

impl WebhookRequest {
    /// What it asks for, as a change; a create needs all of it.
    fn weigh(self, call: &Call, is_create: bool) -> Result<RegistrationChange, Problem> {
        let mut faults = Faults::default();
        let faults = &mut faults;
        let mut members = Members::of(self.0, &["Type", "DestinationURL", "AuthenticationMethod"], "", faults);
        let mut wanted = RegistrationChange::default();
        let missing = |name: &str, faults: &mut Faults| {
            if is_create {
                faults.note(format!("/{name}"), "is required");
            }
        };
        match members.take("Type") {
            Some((at, code)) => wanted.pattern = faults.weigh(&at, call.settings.dialects.types.pattern(&code)),
            None => missing("Type", faults),
        }
        match members.take("DestinationURL") {
            Some((at, Value::String(text))) => wanted.url = url(call, &at, text, faults),
            Some((at, _)) => faults.note(at, "is not a text"),
            None => missing("DestinationURL", faults),
        }
        match members.take("AuthenticationMethod") {
            Some((at, Value::Object(object))) => wanted.auth = auth(object, &at, faults),
            Some((at, _)) => faults.note(at, "is not an object"),
            None => missing("AuthenticationMethod", faults),
        }
        std::mem::take(faults).into_result()?;
        Ok(wanted)
    }
}

/// The credentials: which of them are required depends on the method, and others do not belong to it.
fn auth(object: Map<String, Value>, pointer: &str, faults: &mut Faults) -> Option<Auth> {
    let mut members = Members::of(object, &["Method", "Username", "Password", "SharedSecret"], pointer, faults);
    let Some((at, method)) = members.take("Method") else {
        faults.note(format!("{pointer}/Method"), "is required");
        return None;
    };
    let required = |name: &str, members: &mut Members, faults: &mut Faults| {
        let absent = !members.0.iter().any(|(known, _, value)| *known == name && !value.is_null());
        if absent {
            faults.note(format!("{pointer}/{name}"), format!("is required when Method is {method}"));
        }
        members.text(name, faults)
    };
    let auth = match method.as_u64() {
        Some(0) => {
            let name = required("Username", &mut members, faults);
            let secret = required("Password", &mut members, faults);
            let name = name.and_then(|(at, text)| faults.weigh(&at, username(text)));
            let secret = secret.and_then(|(at, text)| faults.weigh(&at, password(&text)).map(|()| Secret::new(text)));
            name.zip(secret).map(|(username, password)| Auth::Basic { username, password })
        }
        Some(1) => {
            let secret = required("SharedSecret", &mut members, faults);
            let secret =
                secret.and_then(|(at, text)| faults.weigh(&at, sent_verbatim(&text)).map(|()| Secret::new(text)));
            secret.map(|secret| Auth::SharedSecret { header: SHARED_SECRET_HEADER.to_owned(), secret })
        }
        _ => {
            faults.note(at, "must be 0 (basic authentication) or 1 (shared secret)");
            return None;
        }
    };
    for (_, at, _) in members.0.iter().filter(|(_, _, value)| !value.is_null()) {
        faults.note(at.clone(), format!("does not belong to Method {method}"));
    }
    auth
}

/// A webhook in an answer. Of its credentials it shows only which kind they are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WebhookView {
    id: u32,
    /// None when the event type has no number any more.
    r#type: Option<u32>,
    #[serde(rename = "destinationURL")]
    destination_url: String,
    /// None when the credentials were changed to a kind that the document does not know.
    authentication_method: Option<u8>,
}

impl WebhookView {
    fn of(types: &Types, registration: &Registration) -> Self {
        WebhookView {
            id: registration.serial,
            r#type: types.code(&registration.subscription.pattern),
            destination_url: registration.destination.url.clone(),
            authentication_method: match registration.destination.auth {
                Auth::Basic { .. } => Some(0),
                Auth::SharedSecret { .. } => Some(1),
                Auth::None | Auth::Bearer { .. } => None,
            },
        }
    }
}

/// A command in an answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CommandView {
    command_fingerprint: String,
    status: u8,
    create_time: String,
    end_time: Option<String>,
    error: Option<String>,
    message: Option<String>,
}

impl From<Command> for CommandView {
    fn from(command: Command) -> Self {
        CommandView {
            command_fingerprint: command.id.to_string(),
            status: match command.state {
                CommandState::Processing => 0,
                CommandState::Completed => 1,
                CommandState::Failed => 2,
                CommandState::Cancelled => 3,
            },
            create_time: command.created.to_string(),
            end_time: command.ended.map(|at| at.to_string()),
            error: command.error,
            message: command.message,
        }
    }
}

/// The webhook that a path names.
fn named(call: &Call, tenant: &TenantId) -> Result<Registration, Problem> {
    let text = call.params.text("id");
    let is_number = !text.starts_with(['+', '0']) && text.bytes().all(|byte| byte.is_ascii_digit());
    let serial = text.parse::<u32>().ok().filter(|_| is_number);
    let serial = serial.ok_or_else(|| Problem::of_path("id", "must be the number of a webhook, from 1, such as 4"))?;
    let found = call.service.registrations(tenant, NAME).into_iter().find(|it| it.serial == serial);
    found.ok_or_else(|| Problem::new(ProblemCode::NotFound, "there is no such webhook"))
}

/// Accepts an order, and answers with its command.
async fn accept(call: &Call, caller: &Caller, tenant: &TenantId, order: Order) -> Result<Response, Problem> {
    let command = call.service.accept_command(caller.actor(), tenant, NAME, order).await;
    Ok(native::ok(&CommandView::from(command.map_err(|error| in_words(error, &NAMES))?)))
}

/// `GET /api/{tenantslug}/webhooks`: in order of creation.
async fn list(call: Call, caller: Caller) -> Result<Response, Problem> {
    let registrations = call.service.registrations(&tenant(&call, &caller, "tenantslug")?, NAME);
    let view = |registration| WebhookView::of(&call.settings.dialects.types, registration);
    Ok(native::ok(&registrations.iter().map(view).collect::<Vec<_>>()))
}

/// `POST /api/{tenantslug}/webhooks`
async fn create(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let tenant = tenant(&call, &caller, "tenantslug")?;
    let request: WebhookRequest = call.request.json(call.settings.body_bytes_max).await?;
    let RegistrationChange { pattern, url, auth, .. } = request.weigh(&call, true)?;
    let whole = pattern.zip(url).zip(auth);
    let ((pattern, url), auth) = whole.expect("a create without a fault has all three");
    let mut destination = destination(&call, &tenant, NAME, url);
    destination.auth = auth;
    let order = register(&call, NAME, destination, pattern, false);
    accept(&call, &caller, &tenant, order).await
}

/// `GET /api/{tenantslug}/webhooks/{id}`
async fn review(call: Call, caller: Caller) -> Result<Response, Problem> {
    let registration = named(&call, &tenant(&call, &caller, "tenantslug")?)?;
    Ok(native::ok(&WebhookView::of(&call.settings.dialects.types, &registration)))
}

/// `PUT /api/{tenantslug}/webhooks/{id}`: fields that are not there stay.
async fn update(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let tenant = tenant(&call, &caller, "tenantslug")?;
    let registration = named(&call, &tenant)?;
    let request: WebhookRequest = call.request.json(call.settings.body_bytes_max).await?;
    let order = change(&caller, &registration, request.weigh(&call, false)?, "/DestinationURL")?;
    accept(&call, &caller, &tenant, order).await
}

/// `DELETE /api/{tenantslug}/webhooks/{id}`
async fn delete(call: Call, caller: Caller) -> Result<Response, Problem> {
    let tenant = tenant(&call, &caller, "tenantslug")?;
    let order = Order::Deregister { subscription: named(&call, &tenant)?.subscription.id };
    accept(&call, &caller, &tenant, order).await
}

/// `GET /api/{tenantslug}/commands/{fingerprint}`
async fn command(call: Call, caller: Caller) -> Result<Response, Problem> {
    let tenant = tenant(&call, &caller, "tenantslug")?;
    let id = call.params.parse::<CommandId>("fingerprint")?;
    Ok(native::ok(&CommandView::from(call.service.command(&tenant, NAME, id).await?)))
}
