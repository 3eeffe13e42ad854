//! The files that pages refer to. Their names hold a hash of their content, so that a browser may keep them for good.

use std::sync::LazyLock;

use ::http::StatusCode;
use ::http::header::{CACHE_CONTROL, ETAG, HeaderValue, IF_NONE_MATCH};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::http::request::Request;
use crate::http::response::Response;
use crate::model::id::hex;

/// A file.
pub(super) struct Asset {
    path: String,
    etag: HeaderValue,
    content_type: &'static str,
    content: &'static str,
}

/// The style of every page.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css")));
/// What pages cannot do without script.
pub(super) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("app", "js", "text/javascript; charset=utf-8", include_str!("assets/app.js")));
/// What fills the live tail.
pub(super) static TAIL: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("tail", "js", "text/javascript; charset=utf-8", include_str!("assets/tail.js")));
/// The mark of the product.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

impl Asset {
    fn new(name: &str, ending: &str, content_type: &'static str, content: &'static str) -> Self {
        let hash = hex(&Sha256::digest(content)[..8]);
        let etag = HeaderValue::from_str(&format!("\"{hash}\"")).expect("hexadecimal digits in quotes");
        Asset { path: format!("/ui/assets/{name}-{hash}.{ending}"), etag, content_type, content }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// How many bytes it has.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.content.len()
    }
}

/// The file of this path.
pub(super) fn find(path: &str) -> Option<&'static Asset> {
    [&*STYLE, &*SCRIPT, &*TAIL, &*ICON].into_iter().find(|asset| asset.path == path)
}

/// The file, or that the browser has it already.
pub(super) fn answer(asset: &'static Asset, request: &Request) -> Response {
    let known = request.headers().get_all(IF_NONE_MATCH).iter().any(|etag| etag == asset.etag);
    let response = match known {
        true => Response::empty(StatusCode::NOT_MODIFIED),
        false => Response::bytes(StatusCode::OK, asset.content_type, Bytes::from_static(asset.content.as_bytes())),
    };
    response
        .with_header(ETAG, asset.etag.clone())
        .with_header(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"))
}
