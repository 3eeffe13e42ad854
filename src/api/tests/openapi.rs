//! The document at `/openapi.json` against the routes, and every answer of these tests against its schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::access::Things;
use super::*;
use crate::http::problem::ProblemCode;
use crate::model::audit::Action;
use crate::model::destination::{Format, Preset};
use crate::model::milestone::Milestone;
use crate::model::{DeliveryState, Outcome, Reason};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(crate::api::openapi::DOCUMENT).unwrap());

/// What a reference within the document stands for; anything else stands for itself.
fn resolve(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        None => value,
        Some(pointer) => {
            let found = DOCUMENT.pointer(pointer.strip_prefix('#').unwrap());
            resolve(found.unwrap_or_else(|| panic!("{pointer} leads nowhere")))
        }
    }
}

/// An operation of the document, with the parameters of its path.
struct Operation {
    method: String,
    path: &'static str,
    itself: &'static Value,
    parameters: Vec<&'static Value>,
}

impl Operation {
    fn names(&self, place: &str) -> BTreeSet<&str> {
        let here = self.parameters.iter().filter(|parameter| parameter["in"] == place);
        here.map(|parameter| parameter["name"].as_str().unwrap()).collect()
    }
}

static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(|| {
    let document: &'static Value = &DOCUMENT;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, itself) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
            let listed = [&item["parameters"], &itself["parameters"]].into_iter().filter_map(Value::as_array);
            let parameters = listed.flatten().map(resolve).collect();
            operations.push(Operation { method: method.to_uppercase(), path, itself, parameters });
        }
    }
    operations
});

/// The operation that a request is, if it is one.
fn operation(method: &str, path: &str) -> Option<&'static Operation> {
    static ROUTES: LazyLock<Routes<Act>> = LazyLock::new(|| Routes::new(routes(&Settings::default())).unwrap());
    let found = ROUTES.find(&method.parse().unwrap(), path).ok()?;
    let is_it = |it: &&Operation| it.method == found.route.method.as_str() && it.path == found.route.pattern;
    OPERATIONS.iter().find(is_it)
}

/// Why a value is not of a schema. Only the keywords that this document uses are judged; a member of an answer that no
/// schema describes is a fault, too.
fn fault(schema: &Value, value: &Value, at: &str) -> Option<String> {
    // Said for readers and for generators of requests: what it says is judged where requests are, by their own tests.
    const TOLD: [&str; 10] = [
        "description",
        "examples",
        "default",
        "format",
        "pattern",
        "contentEncoding",
        "x-codes",
        "title",
        "summary",
        "example",
    ];
    let found = |why: String| Some(format!("{at}: {why}: {value}"));
    let is_of = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{at}: there is no type {other}"),
    };
    let size = match value {
        Value::String(text) => text.chars().count(),
        Value::Array(list) => list.len(),
        Value::Object(members) => members.len(),
        _ => 0,
    } as f64;
    let too = |is_out: bool, keyword: &str| if is_out { found(format!("breaks {keyword}")) } else { None };
    let matching = |schemas: &Value| {
        let faults: Vec<_> = schemas.as_array().unwrap().iter().map(|one| fault(one, value, at)).collect();
        (
            faults.iter().filter(|fault| fault.is_none()).count(),
            faults.into_iter().flatten().collect::<Vec<_>>().join("; "),
        )
    };
    let members = schema.as_object().unwrap_or_else(|| panic!("{at}: {schema} is no schema"));
    members.iter().find_map(|(keyword, rule)| match (keyword.as_str(), value) {
        ("$ref", _) => fault(resolve(schema), value, at),
        ("type", _) => {
            let kinds = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
            too(!kinds.iter().any(|kind| is_of(kind.as_str().unwrap())), &format!("type {rule}"))
        }
        ("const", _) => too(value != rule, &format!("const {rule}")),
        ("enum", _) => too(!rule.as_array().unwrap().contains(value), &format!("enum {rule}")),
        ("anyOf", _) => {
            let (count, faults) = matching(rule);
            too(count == 0, &format!("anyOf ({faults})"))
        }
        ("oneOf", _) => {
            let (count, faults) = matching(rule);
            too(count != 1, &format!("oneOf, {count} match ({faults})"))
        }
        ("properties", Value::Object(present)) => present.iter().find_map(|(name, value)| match rule.get(name) {
            Some(schema) => fault(schema, value, &format!("{at}/{name}")),
            None => match schema.get("additionalProperties") {
                Some(Value::Bool(true)) => None,
                Some(Value::Bool(false)) | None => found(format!("{name} is not described")),
                Some(schema) => fault(schema, value, &format!("{at}/{name}")),
            },
        }),
        ("additionalProperties", Value::Object(present)) if !members.contains_key("properties") => {
            present.iter().find_map(|(name, value)| fault(rule, value, &format!("{at}/{name}")))
        }
        ("required", Value::Object(present)) => {
            let missing = rule.as_array().unwrap().iter().find(|name| !present.contains_key(name.as_str().unwrap()));
            missing.and_then(|name| found(format!("{name} is missing")))
        }
        ("items", Value::Array(list)) => {
            list.iter().enumerate().find_map(|(place, value)| fault(rule, value, &format!("{at}/{place}")))
        }
        ("minLength", Value::String(_)) | ("minItems", Value::Array(_)) | ("minProperties", Value::Object(_)) => {
            too(size < rule.as_f64().unwrap(), keyword)
        }
        ("maxLength", Value::String(_)) | ("maxItems", Value::Array(_)) | ("maxProperties", Value::Object(_)) => {
            too(size > rule.as_f64().unwrap(), keyword)
        }
        ("minimum", Value::Number(number)) => too(number.as_f64() < rule.as_f64(), keyword),
        ("maximum", Value::Number(number)) => too(number.as_f64() > rule.as_f64(), keyword),
        (
            "properties"
            | "additionalProperties"
            | "required"
            | "items"
            | "minLength"
            | "minItems"
            | "minProperties"
            | "maxLength"
            | "maxItems"
            | "maxProperties"
            | "minimum"
            | "maximum",
            _,
        ) => None,
        (told, _) if TOLD.contains(&told) => None,
        (other, _) => panic!("{at}: the keyword {other} is not judged here"),
    })
}

/// Holds an answer, and the request when it was taken, to the document. Each [`World::send`] calls this.
pub(super) fn hold(method: &str, path: &str, sent: &[u8], answered: &Answered) {
    let at = format!("{method} {path}: {answered:?}");
    let Some(operation) = operation(method, path) else {
        assert!(matches!(answered.status, 400 | 404 | 405), "{at}");
        return;
    };
    let described = &operation.itself["responses"][answered.status.to_string()];
    assert!(!described.is_null(), "a status that is not described: {at}");
    let described = resolve(described);
    for (name, header) in described["headers"].as_object().into_iter().flatten() {
        let is_there = answered.headers.contains_key(name.to_lowercase());
        assert!(is_there || resolve(header)["required"] != true, "no {name}: {at}");
    }
    match described["content"].as_object() {
        None => assert_eq!(answered.text, "", "{at}"),
        Some(content) => {
            let content_type = answered.headers["content-type"].to_str().unwrap();
            let media = content.get(content_type).unwrap_or_else(|| panic!("{content_type} is not described: {at}"));
            if content_type.ends_with("json") && operation.path != "/openapi.json" {
                assert_eq!(fault(&media["schema"], &answered.json(), ""), None, "{at}");
            }
        }
    }
    if let (200..300, Ok(taken)) = (answered.status, serde_json::from_slice(sent))
        && let Some(body) = operation.itself.get("requestBody")
    {
        let fault = fault(&body["content"]["application/json"]["schema"], &taken, "");
        assert_eq!(fault, None, "taken, and not described: {at}");
    }
}

/// Each route of the table is in the document with the role that it asks for, and nothing else is.
#[test]
fn every_route_is_described_and_every_description_is_a_route() {
    let role = |access| match access {
        Access::Public => "public",
        Access::Role(role) => role.as_str(),
    };
    let routes = routes(&Settings::default());
    let routes = routes.iter().map(|it| (it.pattern, it.method.to_string(), role(it.access))).collect::<BTreeSet<_>>();
    let described = OPERATIONS.iter().map(|it| (it.path, it.method.clone(), it.itself["x-role"].as_str().unwrap()));
    assert_eq!(described.collect::<BTreeSet<_>>(), routes);
    for route in super::super::routes(&Settings::default()) {
        let described = operation(route.method.as_str(), route.pattern).unwrap().itself.get("requestBody").is_some();
        assert_eq!(described, route.takes == Takes::Body, "{} {}", route.method, route.pattern);
    }
    for operation in &*OPERATIONS {
        let is_public = operation.itself["x-role"] == "public";
        assert_eq!(operation.itself["security"] == json!([]), is_public, "{}", operation.path);
        assert_eq!(operation.names("header").contains("X-Tenant"), !is_public, "{}", operation.path);
        // A reveal is noted each time; an answer that is kept would show a secret unnoticed.
        let takes_keys = !is_public && operation.method == "POST" && !operation.path.ends_with("/reveal");
        assert_eq!(operation.names("header").contains("Idempotency-Key"), takes_keys, "{}", operation.path);
        let in_path = operation.path.split(['{', '}']).skip(1).step_by(2).collect::<BTreeSet<_>>();
        assert_eq!(operation.names("path"), in_path, "{}", operation.path);
    }
}

/// A parameter that a route does not know is refused with a list of those that it knows: the document has the same list.
#[tokio::test]
async fn every_parameter_of_a_query_is_described_and_no_other() {
    let world = World::new();
    let things = Things::make(&world, "m1").await;
    let mut lists = 0;
    for operation in &*OPERATIONS {
        let path = format!("{}?nothing=1", things.path(operation.path));
        let answered = world.ask(Who::Operator, &operation.method, &path, Value::Null).await;
        let detail = answered.json()["detail"].as_str().unwrap_or_default().to_owned();
        let known = match detail.split_once("; there are ") {
            Some((_, known)) => known.split(", ").collect(),
            None => {
                let is_public = operation.itself["x-role"] == "public";
                assert!(
                    is_public || detail == "nothing: is not known here, where there are no parameters",
                    "{path}: {answered:?}"
                );
                BTreeSet::new()
            }
        };
        assert_eq!(operation.names("query"), known, "{path}");
        lists += usize::from(known.contains("limit"));
    }
    assert!(lists >= 10, "{lists} lists");
}

/// A body and what stands in it are objects where they are meant to be: an array is not one with its fields by position.
#[tokio::test]
async fn an_array_is_not_an_object_on_any_route() {
    let world = World::new();
    let things = Things::make(&world, "m1").await;
    let refused = async |method: &str, path: &str, body: Value| {
        let answered = world.ask(Who::Operator, method, path, body.clone()).await;
        assert_eq!(answered.status, 400, "{method} {path} {body}: {answered:?}");
        for word in ["struct", "Request"] {
            assert!(!answered.text.contains(word), "{method} {path} {body}: {answered:?}");
        }
    };
    let mut bodies = 0;
    for operation in OPERATIONS.iter().filter(|operation| operation.itself.get("requestBody").is_some()) {
        let path = things.path(operation.path);
        // Events are handed in as a list, too.
        let list = if operation.path == "/v1/events" { json!([]) } else { json!(["a1", null]) };
        for body in [json!([]), list, json!("a1"), json!(1)] {
            refused(&operation.method, &path, body).await;
        }
        bodies += 1;
    }
    assert!(bodies >= 10, "{bodies} bodies");
    let destination = things.path("/v1/destinations/webhook/{id}");
    for field in ["auth", "retry", "success", "rate", "tls", "headers"] {
        for value in [json!([]), json!(["a1"]), json!("a1")] {
            refused("PUT", &destination, json!({ field: value })).await;
        }
    }
    for body in [json!({"success": {"body": []}}), json!({"signature": [[]]}), json!({"signature": 1})] {
        refused("PUT", &destination, body).await;
    }
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

/// The closed lists of the document are the program's.
#[test]
fn every_closed_list_is_whole() {
    let listed = |schema: &str, pointer: &str| {
        let list = DOCUMENT["components"]["schemas"][schema].pointer(&format!("{pointer}/enum"));
        let list = list.unwrap_or_else(|| panic!("{schema}{pointer} is no closed list"));
        words(list.as_array().unwrap().iter().filter_map(Value::as_str))
    };
    let codes = ProblemCode::ALL.iter().map(|code| code.as_str());
    assert_eq!(listed("Problem", "/properties/code"), words(codes));
    assert_eq!(listed("Action", ""), words(Action::ALL.iter().map(|action| action.as_str())));
    assert_eq!(listed("DeliveryState", ""), words(DeliveryState::ALL.map(DeliveryState::as_str)));
    assert_eq!(listed("Format", ""), words(Format::ALL.map(Format::as_str)));
    assert_eq!(listed("Milestone", ""), words(Milestone::ALL.map(Milestone::as_str)));
    assert_eq!(listed("Outcome", ""), words(Outcome::ALL.map(Outcome::as_str)));
    assert_eq!(listed("Preset", ""), words(Preset::ALL.map(Preset::as_str)));
    assert_eq!(listed("Attempt", "/properties/reason"), words(Reason::ALL.iter().map(|reason| reason.as_str())));
    assert_eq!(listed("Role", ""), words([Role::Ingest, Role::Read, Role::Operate, Role::Admin].map(Role::as_str)));

    // Each code stands with the one status that goes with it.
    let mut by_status: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for code in ProblemCode::ALL {
        by_status.entry(code.status().as_u16()).or_default().insert(code.as_str().to_owned());
    }
    let refusals = OPERATIONS.iter().flat_map(|it| it.itself["responses"].as_object().unwrap());
    for (status, refusal) in refusals.map(|(status, it)| (status.parse::<u16>().unwrap(), resolve(it))) {
        if status >= 400 {
            let codes = refusal["x-codes"].as_array().unwrap().iter().map(|code| code.as_str().unwrap());
            assert_eq!(words(codes), by_status[&status], "{status}");
        }
    }
}

/// README.md has a table of a destination's fields and one of a key's forms: what the document knows stands there, and nothing
/// else does.
#[test]
fn the_readme_names_every_field_of_a_destination_and_every_form_of_a_key() {
    const README: &str = include_str!("../../../README.md");
    let section = |title: &str| {
        let (_, rest) = README.split_once(&format!("\n## {title}\n")).unwrap();
        rest.split_once("\n## ").unwrap().0
    };
    let in_ticks = |text: &str| -> BTreeSet<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let cells = |title: &str, column: usize| {
        let rows = section(title).lines().filter(|line| line.starts_with("| "));
        let rows = rows.skip(2).map(move |row| row.split('|').nth(column).unwrap().to_owned());
        rows.collect::<String>()
    };
    let schema = |name: &str| &DOCUMENT["components"]["schemas"][name]["properties"];
    let known = ["DestinationCreate", "DestinationUpdate", "Destination"].map(|name| schema(name).as_object().unwrap());
    let known: BTreeSet<String> = known.into_iter().flat_map(|fields| fields.keys().cloned()).collect();
    assert_eq!(in_ticks(&cells("A destination", 1)), known);
    for block in ["retry", "success", "tls"] {
        let name = format!("{}{}", block[..1].to_uppercase(), &block[1..]);
        let row = section("A destination").lines().find(|line| line.starts_with(&format!("| `{block}`"))).unwrap();
        for field in schema(&name).as_object().unwrap().keys() {
            assert!(row.contains(&format!("`{field}`")), "{block}.{field}");
        }
    }

    let shown = in_ticks(&cells("A key", 2));
    let header = |text: &String| text.split_once(": ").unwrap().0.to_owned();
    let schemes = DOCUMENT["components"]["securitySchemes"].as_object().unwrap().values();
    let described = schemes.map(|it| it["name"].as_str().unwrap_or("Authorization").to_owned());
    assert_eq!(shown.iter().map(header).collect::<BTreeSet<_>>(), described.collect());
    assert!(shown.iter().any(|it| it.starts_with("Authorization: Bearer ")), "{shown:?}");
}

/// Whoever generates a client from the document meets no loose end, and its examples are what they say.
#[test]
fn the_document_is_in_order() {
    assert_eq!(DOCUMENT["info"]["version"], env!("CARGO_PKG_VERSION"));
    fn walk(value: &'static Value, used: &mut BTreeSet<&'static str>) {
        match value {
            Value::Object(members) => {
                used.extend(value["$ref"].as_str());
                resolve(value);
                members.values().for_each(|member| walk(member, used));
                if let (Some(schema), Some(example)) = (members.get("schema"), members.get("example")) {
                    assert_eq!(fault(schema, example, ""), None);
                }
                if let (Some(schema), Some(examples)) = (members.get("schema"), members.get("examples")) {
                    for (name, example) in examples.as_object().unwrap() {
                        assert_eq!(fault(schema, &example["value"], ""), None, "{name}");
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|one| walk(one, used)),
            _ => {}
        }
    }
    let mut used = BTreeSet::new();
    walk(&DOCUMENT, &mut used);
    // 405 belongs to no operation.
    used.insert("#/components/responses/MethodNotAllowed");
    for (kind, components) in DOCUMENT["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys().filter(|_| kind != "securitySchemes") {
            assert!(used.contains(&*format!("#/components/{kind}/{name}")), "nothing uses {kind} {name}");
        }
    }
    let ids: BTreeSet<_> = OPERATIONS.iter().map(|it| it.itself["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), OPERATIONS.len());
    for operation in &*OPERATIONS {
        assert!(operation.itself["summary"].is_string(), "{}", operation.path);
    }
}

/// The judge of the tests above finds what it must.
#[test]
fn what_is_not_of_a_schema_is_found() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
        "b": {"type": "array", "maxItems": 1, "items": {"enum": ["x"]}},
        "c": {"oneOf": [{"const": 1}, {"type": "integer"}]},
        "d": {"anyOf": [{"const": 1}, {"type": "string", "minLength": 1}]},
        "e": {"type": "object", "additionalProperties": {"type": "string"}},
    }});
    for right in [json!({"a": 1}), json!({"a": null, "b": ["x"], "c": 2, "d": "y", "e": {"z": "z"}})] {
        assert_eq!(fault(&schema, &right, ""), None);
    }
    for wrong in [
        json!([]),
        json!({}),
        json!({"a": 0}),
        json!({"a": 10}),
        json!({"a": 1.5}),
        json!({"a": "1"}),
        json!({"a": 1, "z": 1}),
        json!({"a": 1, "b": ["y"]}),
        json!({"a": 1, "b": ["x", "x"]}),
        json!({"a": 1, "c": 1}),
        json!({"a": 1, "d": ""}),
        json!({"a": 1, "e": {"z": 1}}),
    ] {
        assert!(fault(&schema, &wrong, "").is_some(), "{wrong}");
    }
}

/// The document is served as it stands in the source, to anybody.
#[tokio::test]
async fn the_description_is_served_to_anybody() {
    let served = World::new().ask(Who::Nobody, "GET", "/openapi.json", Value::Null).await;
    assert_eq!((served.status, served.json()), (200, DOCUMENT.clone()));
}
