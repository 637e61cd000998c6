//! What is not done: a problem (RFC 9457), for people and for programs, with the name that the wire has for
//! it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use impp_protocol::Code;
use serde_json::json;

/// See the module.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: Code,
    detail: String,
    /// Nothing more is read of this connection.
    ends: bool,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Problem {
        Problem { status, code, detail: detail.into(), ends: false }
    }

    /// After it the connection ends: what would come next could not be told from what is wrong.
    pub(super) fn ending(self) -> Problem {
        Problem { ends: true, ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem { status, code, detail, ends } = self;
        let said = json!({
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "code": code.to_string(),
            "detail": detail,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, format!("{said}\n")).into_response();
        if ends {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
