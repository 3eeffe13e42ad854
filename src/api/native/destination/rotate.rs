//! `POST …/{id}/secret/rotate`: a new secret, and how long the one before it goes on counting.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::caller::Caller;
use crate::api::door::{Faults, MASK, Patch, duration, plain_text};
use crate::api::native::signature::{SECRET_CHARS_MAX, SECRET_CHARS_MIN};
use crate::api::{Call, native};
use crate::http::problem::Problem;
use crate::http::response::Response;
use crate::model::{Invalid, Secret};
use crate::service::Rotation;

const OVERLAP_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const OVERLAP_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// The body of a rotation; every field may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api::native) struct RotateRequest {
    /// How long the secret before goes on counting: `0s` to 31 days, a day unless the caller says otherwise.
    overlap: Patch<String>,
    /// The new secret; generated when it is not given.
    secret: Patch<Secret>,
    /// Which signature's, by preset or header, where a destination's signatures have several secrets.
    signature: Patch<String>,
}

#[derive(Debug, Serialize)]
struct RotatedView<'a> {
    secret: &'a str,
    previous_expires_at: String,
}

impl RotateRequest {
    fn weigh(self) -> Result<Rotation, Problem> {
        let mut faults = Faults::default();
        let mut rotation = Rotation { overlap: OVERLAP_DEFAULT, secret: None, signature: None };
        faults
            .set("/overlap", self.overlap, &mut rotation.overlap, |text| duration(&text, Duration::ZERO, OVERLAP_MAX));
        faults.set_or("/secret", self.secret, &mut rotation.secret, None, |secret| match secret.expose() {
            MASK => Err(Invalid::new("*** stands for a stored secret; give the new one, or none")),
            text => plain_text(text.to_owned(), SECRET_CHARS_MIN, SECRET_CHARS_MAX).map(|_| Some(secret)),
        });
        faults.set_or("/signature", self.signature, &mut rotation.signature, None, |name| {
            plain_text(name, 1, SECRET_CHARS_MAX).map(Some)
        });
        faults.into_result().map(|()| rotation)
    }

    /// The rotation of a signing key, which has one secret.
    pub(in crate::api::native) fn weigh_for_key(mut self) -> Result<Rotation, Problem> {
        if std::mem::take(&mut self.signature) != Patch::Absent {
            let mut faults = Faults::default();
            faults.note("/signature", "is of a destination's rotation; a signing key has one secret");
            faults.into_result()?;
        }
        self.weigh()
    }
}

/// `POST /v1/destinations/webhook/{id}/secret/rotate`
pub(in crate::api::native) async fn rotate(mut call: Call, caller: Caller) -> Result<Response, Problem> {
    let (sight, id) = (caller.sight(), call.params.parse("id")?);
    call.service.destination(&sight, id)?;
    let request: RotateRequest = call.request.json(call.settings.body_bytes_max).await?;
    let rotated = call.service.rotate_secret(caller.actor(), &sight, id, &request.weigh()?).await?;
    let previous_expires_at = rotated.previous_expires_at.to_string();
    Ok(native::ok(&RotatedView { secret: rotated.secret.expose(), previous_expires_at }))
}
