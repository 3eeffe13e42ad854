//! How a key travels: the four forms of the sources, and the tenant that a caller names.
//!
//! This reads headers only; whether the key exists and what it may do is looked up by the service.

use http::header::{AUTHORIZATION, HeaderMap};

use crate::http::problem::{Problem, ProblemCode};
use crate::model::{ApiKey, Secret, TenantId};

const X_API_KEY: &str = "x-api-key";
const X_KEY_ID: &str = "x-authenticationkeyid";
const X_KEY_VALUE: &str = "x-authenticationkeyvalue";
const X_TENANT: &str = "x-tenant";

/// The key that a request shows, if it shows one.
///
/// It may stand in `Authorization` bare (source 002) or after `Bearer`, in `x-api-key` (source 003), or in
/// `x-AuthenticationKeyValue` beside its id in `x-AuthenticationKeyId` (source 000), also in several of them at once.
///
/// A 401 when two forms show different keys, when an id stands without a value or a value without an id, when the id is
/// not the value's own, and when `Authorization` is of another scheme: nobody could say which one was meant.
pub fn shown_key(headers: &HeaderMap) -> Result<Option<Secret>, Problem> {
    let mut shown: Option<&str> = None;
    let candidates = [authorization(headers)?, one(headers, X_API_KEY)?, pair(headers)?];
    for candidate in candidates.into_iter().flatten() {
        match shown {
            Some(other) if other != candidate => return Err(unauthorized("the request shows two keys that differ")),
            _ => shown = Some(candidate),
        }
    }
    Ok(shown.map(Secret::new))
}

/// The tenant that the request names in `X-Tenant`, if it names one; a malformed one is a 400.
pub fn named_tenant(headers: &HeaderMap) -> Result<Option<TenantId>, Problem> {
    let bad = |why: String| Problem::new(ProblemCode::BadHeader, format!("X-Tenant: {why}"));
    let mut values = headers.get_all(X_TENANT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("stands there more than once".to_owned()));
    }
    let text = value.to_str().map_err(|_| bad("is not ASCII".to_owned()))?;
    text.parse().map(Some).map_err(|invalid| bad(format!("{invalid}")))
}

fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(text) = one(headers, AUTHORIZATION.as_str())? else { return Ok(None) };
    match text.split_once(' ') {
        None => Ok(Some(text)),
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(key.trim_matches(' '))),
        Some(_) => Err(unauthorized("Authorization takes a key as it is, or after Bearer")),
    }
}

fn pair(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    match (one(headers, X_KEY_ID)?, one(headers, X_KEY_VALUE)?) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(unauthorized("x-AuthenticationKeyId stands without x-AuthenticationKeyValue")),
        (None, Some(_)) => Err(unauthorized("x-AuthenticationKeyValue stands without x-AuthenticationKeyId")),
        (Some(id), Some(value)) => match ApiKey::id_in(value) {
            // A value that is no key of ours is turned away by the look-up, in the same words as an unknown one.
            Some(own) if own.to_string() != id.to_ascii_lowercase() => {
                Err(unauthorized("x-AuthenticationKeyId is not the id of the key in x-AuthenticationKeyValue"))
            }
            Some(_) | None => Ok(Some(value)),
        },
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(unauthorized(format!("{name} stands there more than once")));
    }
    let text = value.to_str().map_err(|_| unauthorized(format!("{name} is not ASCII")))?.trim();
    if text.is_empty() {
        return Err(unauthorized(format!("{name} is empty")));
    }
    Ok(Some(text))
}

fn unauthorized(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Unauthorized, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Role, Timestamp};
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn key(chance: u8) -> (String, String) {
        let (key, secret) = ApiKey::generate([chance; 38], "k".into(), Role::Read, None, Timestamp::ZERO);
        (key.id.to_string(), secret.expose().to_owned())
    }

    /// S2.4, S3.3, S0.29, S0.30, SX.11: each of the sources' forms carries a key.
    #[test]
    fn a_key_travels_in_each_of_four_forms() {
        let (id, secret) = key(1);
        let bearer = format!("bearer {secret}");
        let forms: [&[(&str, &str)]; 6] = [
            &[("authorization", &secret)],
            &[("authorization", &bearer)],
            &[("x-api-key", &secret)],
            &[("x-authenticationkeyid", &id), ("x-authenticationkeyvalue", &secret)],
            &[("x-authenticationkeyid", &id.to_uppercase()), ("x-authenticationkeyvalue", &secret)],
            &[("authorization", &secret), ("x-api-key", &secret)],
        ];
        for form in forms {
            assert_eq!(shown_key(&headers(form)), Ok(Some(Secret::new(&*secret))), "{form:?}");
        }
        assert_eq!(shown_key(&headers(&[("x-other", "1")])), Ok(None));
    }

    /// SX.11, SX.5: what cannot be understood is a 401 with a reason that repeats no key.
    #[test]
    fn ambiguous_keys_are_refused_with_a_reason() {
        let ((id, secret), (other_id, other)) = (key(1), key(2));
        let basic = format!("Basic {secret}");
        let forms: [&[(&str, &str)]; 8] = [
            &[("authorization", &secret), ("x-api-key", &other)],
            &[("authorization", &secret), ("x-authenticationkeyid", &other_id), ("x-authenticationkeyvalue", &other)],
            &[("x-authenticationkeyid", &other_id), ("x-authenticationkeyvalue", &secret)],
            &[("x-authenticationkeyid", &id)],
            &[("x-authenticationkeyvalue", &secret)],
            &[("authorization", &basic)],
            &[("x-api-key", &secret), ("x-api-key", &secret)],
            &[("x-api-key", "")],
        ];
        for form in forms {
            let problem = shown_key(&headers(form)).unwrap_err();
            assert_eq!(problem.code(), ProblemCode::Unauthorized, "{form:?}");
            assert!(!problem.detail().contains(&secret), "{problem}");
        }
    }

    #[test]
    fn a_tenant_is_named_once_and_well() {
        assert_eq!(named_tenant(&headers(&[])), Ok(None));
        assert_eq!(named_tenant(&headers(&[("x-tenant", "m-1")])), Ok(Some("m-1".parse().unwrap())));
        for wrong in [&[("x-tenant", "a b")][..], &[("x-tenant", "")], &[("x-tenant", "a"), ("x-tenant", "b")]] {
            assert_eq!(named_tenant(&headers(wrong)).unwrap_err().code(), ProblemCode::BadHeader, "{wrong:?}");
        }
    }
}
