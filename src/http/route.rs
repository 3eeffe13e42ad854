//! The route table: data, so that a test can list every route with the role that it asks for.
//!
//! A table is a list of [`Route`]s, each with a method, a pattern, what it asks of the caller, and a handler of any
//! type. Finding a route is all that happens here; who the caller is and what the handler does is the business of the
//! room that owns the table. A HEAD finds the GET route of its path.

use std::str::FromStr;

use http::Method;
use percent_encoding::percent_decode_str;

use super::problem::{Problem, ProblemCode};
use crate::model::{Invalid, Role};

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing: no key is looked at.
    Public,
    /// A key whose role covers this one.
    Role(Role),
}

/// What a route does with a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// It knows none.
    NoBody,
    /// It reads one.
    Body,
}

/// One method on one pattern of paths.
#[derive(Debug, Clone)]
pub struct Route<H> {
    /// Which method.
    pub method: Method,
    /// Which paths, as `/v1/things/{id}`; a parameter stands for one whole segment.
    pub pattern: &'static str,
    /// What it asks of the caller.
    pub access: Access,
    /// The names that its query may have; most routes know none.
    pub query: Vec<&'static str>,
    /// Whether it reads a body.
    pub takes: Takes,
    /// What answers.
    pub handler: H,
}

/// Why a list of routes is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The pattern is malformed, or stands for the same paths as another one.
    #[error("route {pattern}: {cause}")]
    Pattern {
        /// Which.
        pattern: &'static str,
        /// In the matcher's words.
        cause: String,
    },
    /// The same method stands twice on one pattern.
    #[error("route {pattern}: {method} stands there twice")]
    Twice {
        /// Which pattern.
        pattern: &'static str,
        /// Which method.
        method: Method,
    },
}

/// A table of routes.
#[derive(Debug, Clone)]
pub struct Routes<H> {
    routes: Vec<Route<H>>,
    /// For each pattern the places of its routes in `routes`.
    patterns: matchit::Router<usize>,
    places: Vec<Vec<usize>>,
}

/// A route that answers to a request, and what the path said.
#[derive(Debug)]
pub struct Found<'a, H> {
    /// The route.
    pub route: &'a Route<H>,
    /// The values of the pattern's parameters.
    pub params: Params,
}

/// The values of a pattern's parameters, percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params(Vec<(String, String)>);

impl<H> Routes<H> {
    /// A table of these routes.
    pub fn new(routes: Vec<Route<H>>) -> Result<Self, TableError> {
        let mut patterns = matchit::Router::new();
        let mut places: Vec<Vec<usize>> = Vec::new();
        let mut known: Vec<&'static str> = Vec::new();
        for (place, route) in routes.iter().enumerate() {
            let pattern = route.pattern;
            let at = match known.iter().position(|other| *other == pattern) {
                Some(at) => at,
                None => {
                    patterns
                        .insert(pattern, known.len())
                        .map_err(|cause| TableError::Pattern { pattern, cause: cause.to_string() })?;
                    known.push(pattern);
                    places.push(Vec::new());
                    places.len() - 1
                }
            };
            if places[at].iter().any(|&other| routes[other].method == route.method) {
                return Err(TableError::Twice { pattern, method: route.method.clone() });
            }
            places[at].push(place);
        }
        Ok(Routes { routes, patterns, places })
    }

    /// Every route, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &Route<H>> {
        self.routes.iter()
    }

    /// The route that answers `method` on `path` (as it stands in the request line, without the query).
    ///
    /// A 404 when no pattern matches (one that differs by a slash at the end only is named), a 405 with `Allow` when
    /// the method does not apply, a 400 when a parameter is not percent-encoded UTF-8.
    pub fn find(&self, method: &Method, path: &str) -> Result<Found<'_, H>, Problem> {
        let Ok(matched) = self.patterns.at(path) else {
            return Err(self.nothing_at(path));
        };
        let places = &self.places[*matched.value];
        let of =
            |method: &Method| places.iter().map(|&place| &self.routes[place]).find(|route| route.method == *method);
        let route = of(method).or_else(|| if method == Method::HEAD { of(&Method::GET) } else { None });
        let Some(route) = route else {
            return Err(Problem::method_not_allowed(self.allowed(places)));
        };
        let mut params = Vec::with_capacity(matched.params.len());
        for (name, value) in matched.params.iter() {
            let value = percent_decode_str(value).decode_utf8().map_err(|_| Problem::of_path(name, "is not UTF-8"))?;
            params.push((name.to_owned(), value.into_owned()));
        }
        Ok(Found { route, params: Params(params) })
    }

    fn nothing_at(&self, path: &str) -> Problem {
        let trimmed = path.trim_end_matches('/');
        if trimmed.len() < path.len() && self.patterns.at(trimmed).is_ok() {
            return Problem::new(ProblemCode::NotFound, "a path does not end with a slash; leave it out".to_owned());
        }
        Problem::new(ProblemCode::NotFound, "no such path")
    }

    fn allowed(&self, places: &[usize]) -> String {
        let mut methods: Vec<&str> = Vec::new();
        for &place in places {
            let method = self.routes[place].method.as_str();
            methods.push(method);
            if method == "GET" {
                methods.push("HEAD");
            }
        }
        methods.join(", ")
    }
}

impl Params {
    /// The text of the parameter `name`.
    ///
    /// # Panics
    ///
    /// When the route's pattern has no such parameter: a handler asks for names of its own pattern only.
    pub fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("the pattern has no parameter {name}")).1
    }

    /// The parameter `name` as an id or another value of the model; a malformed one is a 400 that says how one looks.
    pub fn parse<T: FromStr<Err = Invalid>>(&self, name: &str) -> Result<T, Problem> {
        self.text(name).parse().map_err(|invalid: Invalid| Problem::of_path(name, invalid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DestinationId;

    fn route(method: Method, pattern: &'static str, handler: &'static str) -> Route<&'static str> {
        Route { method, pattern, access: Access::Public, query: Vec::new(), takes: Takes::NoBody, handler }
    }

    fn table() -> Routes<&'static str> {
        Routes::new(vec![
            route(Method::GET, "/v1/things", "list"),
            route(Method::POST, "/v1/things", "create"),
            route(Method::GET, "/v1/things/{id}", "read"),
            route(Method::DELETE, "/v1/things/{id}", "delete"),
            route(Method::POST, "/v1/kinds/{type}/{id}/test", "test"),
        ])
        .unwrap()
    }

    #[test]
    fn a_request_finds_its_route_and_its_parameters() {
        let table = table();
        let rows = [
            (Method::GET, "/v1/things", Ok("list")),
            (Method::HEAD, "/v1/things", Ok("list")),
            (Method::POST, "/v1/things", Ok("create")),
            (Method::GET, "/v1/things/7", Ok("read")),
            (Method::PUT, "/v1/things/7", Err((ProblemCode::MethodNotAllowed, "this path takes GET, HEAD, DELETE"))),
            (Method::HEAD, "/v1/kinds/a/b/test", Err((ProblemCode::MethodNotAllowed, "this path takes POST"))),
            (
                Method::GET,
                "/v1/things/",
                Err((ProblemCode::NotFound, "a path does not end with a slash; leave it out")),
            ),
            (Method::GET, "/v1/other", Err((ProblemCode::NotFound, "no such path"))),
            (Method::GET, "*", Err((ProblemCode::NotFound, "no such path"))),
            (Method::GET, "", Err((ProblemCode::NotFound, "no such path"))),
            (Method::GET, "/v1/things/%ff", Err((ProblemCode::BadId, "id: is not UTF-8"))),
        ];
        for (method, path, expected) in rows {
            let found = table.find(&method, path);
            let found =
                found.as_ref().map(|found| found.route.handler).map_err(|problem| (problem.code(), problem.detail()));
            assert_eq!(found, expected, "{method} {path}");
        }
        let found = table.find(&Method::POST, "/v1/kinds/transaction.%2A/9%2F1/test").unwrap();
        assert_eq!((found.params.text("type"), found.params.text("id")), ("transaction.*", "9/1"));
    }

    /// S2.32, S2.39, S2.41: a malformed id is a 400.
    #[test]
    fn a_malformed_id_is_a_400() {
        let table = table();
        let found = table.find(&Method::GET, "/v1/things/7").unwrap();
        let problem = found.params.parse::<DestinationId>("id").unwrap_err();
        assert_eq!((problem.code(), problem.code().status().as_u16()), (ProblemCode::BadId, 400));
        assert_eq!(problem.errors()[0].pointer, "{id}");
    }

    #[test]
    fn what_stands_twice_is_no_table() {
        let twice = Routes::new(vec![route(Method::GET, "/a", "x"), route(Method::GET, "/a", "y")]);
        assert_eq!(twice.unwrap_err(), TableError::Twice { pattern: "/a", method: Method::GET });
        let same = Routes::new(vec![route(Method::GET, "/{a}", "x"), route(Method::PUT, "/{b}", "y")]);
        assert!(matches!(same, Err(TableError::Pattern { pattern: "/{b}", .. })));
    }
}
