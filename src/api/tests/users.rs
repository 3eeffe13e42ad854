//! People over the API: who may add, change and remove whom, and what is shown of them.

use super::*;

const USERS: &str = "/v1/users";

/// A person's password is shown once when the daemon made it, and never when somebody gave it; nothing else is ever shown.
#[tokio::test]
async fn a_password_that_was_made_is_shown_once() {
    let world = World::new();
    let made = world.done(201, "POST", USERS, json!({"name": "Anna", "role": "admin", "tenant": null})).await;
    let password = text(&made["password"]);
    assert_eq!((&made["name"], &made["one_time_password"]), (&json!("anna"), &json!(true)));
    assert_eq!((&made["totp"], &made["locked"], &made["recovery_codes"]), (&json!(false), &json!(false), &json!(0)));
    let path = format!("{USERS}/{}", text(&made["id"]));
    let given = json!({"name": "ben", "role": "read", "tenant": "default", "password": "correct horse battery"});
    let ben = world.done(201, "POST", USERS, given).await;
    assert_eq!((&ben["password"], &ben["one_time_password"]), (&Value::Null, &json!(false)));
    for path in [USERS, &path, "/v1/audit?limit=1000"] {
        let shown = world.get(path).await.text;
        assert!(!shown.contains(&password) && !shown.contains("correct horse"), "{shown}");
    }
    let other = world.done(200, "PUT", &path, json!({"password": null})).await;
    assert!(other["password"].is_string() && other["password"] != password.as_str());
    let given = world.done(200, "PUT", &path, json!({"password": "another horse battery"})).await;
    assert_eq!((&given["password"], &given["one_time_password"]), (&Value::Null, &json!(false)));
    let log = world.get("/v1/audit?action=user.update").await.json();
    let after = json!({"one_time_password": false, "password": "*** (changed)"});
    assert_eq!(log["records"][0]["record"]["after"], after, "{log}");
}

/// P17: an administrator of one tenant manages its people and nobody else, and gives nobody a further reach than his own.
#[tokio::test]
async fn a_tenants_administrator_manages_its_people_only() {
    let world = World::new();
    world.tenant("m1").await;
    let key = world.key("admin", Some("m1")).await;
    let house = world.user("house", "admin", None).await;
    let add = async |body: Value| world.ask(Who::Key(&key), "POST", USERS, body).await;
    let own = add(json!({"name": "anna", "role": "admin"})).await;
    assert_eq!((own.status, &own.json()["tenant"]), (201, &json!("m1")), "{own:?}");
    for tenant in [Value::Null, json!("default"), json!("nobody")] {
        let refused = add(json!({"name": "ben", "role": "read", "tenant": tenant})).await;
        assert_eq!((refused.status, refused.pointers()), (403, vec!["/tenant".to_owned()]), "{tenant}");
    }
    let list = world.ask(Who::Key(&key), "GET", USERS, Value::Null).await.json();
    assert_eq!(list["users"].as_array().unwrap().len(), 1, "{list}");
    for method in ["GET", "PUT", "DELETE"] {
        let refused = world.ask(Who::Key(&key), method, &format!("{USERS}/{house}"), json!({})).await;
        assert_eq!(refused.status, 404, "{method}");
    }
    let unsaid = world.ask(Who::Operator, "POST", USERS, json!({"name": "c", "role": "read"})).await;
    assert_eq!((unsaid.status, unsaid.pointers()), (400, vec!["/tenant".to_owned()]));
    let unknown = world.ask(Who::Operator, "POST", USERS, json!({"name": "c", "role": "read", "tenant": "m9"})).await;
    assert_eq!((unknown.status, unknown.pointers()), (400, vec!["/tenant".to_owned()]));
    assert_eq!(world.ask(Who::Operator, "DELETE", "/v1/tenants/m1", Value::Null).await.status, 409, "people are in it");
}

/// A login name is one person, whatever the case it is written in.
#[tokio::test]
async fn a_login_name_is_taken_once() {
    let world = World::new();
    let anna = world.user("anna", "read", None).await;
    let ben = world.user("ben", "read", None).await;
    let again = world.ask(Who::Operator, "POST", USERS, json!({"name": "ANNA", "role": "read", "tenant": null})).await;
    assert_eq!((again.status, again.code().as_str()), (409, "conflict"));
    let path = |id: &str| format!("{USERS}/{id}");
    assert_eq!(world.ask(Who::Operator, "PUT", &path(&ben), json!({"name": "Anna"})).await.status, 409);
    assert_eq!(world.done(200, "PUT", &path(&anna), json!({"name": "Carla"})).await["name"], "carla");
    assert_eq!(world.done(200, "PUT", &path(&ben), json!({"name": "anna"})).await["name"], "anna");
}

/// The last administrator of the whole installation goes over the admin socket only, whether he is removed or given less.
#[tokio::test]
async fn the_last_administrator_goes_over_the_admin_socket_only() {
    let world = World::new();
    let key = world.key("admin", None).await;
    let (anna, ben) = (world.user("anna", "admin", None).await, world.user("ben", "admin", None).await);
    world.user("carla", "admin", Some("default")).await;
    let path = |id: &str| format!("{USERS}/{id}");
    assert_eq!(world.ask(Who::Key(&key), "PUT", &path(&ben), json!({"role": "operate"})).await.status, 200);
    for (method, body) in [("DELETE", Value::Null), ("PUT", json!({"role": "read"}))] {
        let refused = world.ask(Who::Key(&key), method, &path(&anna), body).await;
        assert_eq!((refused.status, refused.code().as_str()), (409, "conflict"), "{method}");
    }
    world.done(200, "PUT", &path(&anna), json!({"role": "read"})).await;
    world.done(200, "PUT", &path(&anna), json!({"role": "admin"})).await;
    world.done(204, "DELETE", &path(&anna), Value::Null).await;
    assert_eq!(world.get(&path(&anna)).await.status, 404);
}

/// P16: a name, a password or a role that will not do is refused without being repeated.
#[tokio::test]
async fn what_will_not_do_is_not_repeated() {
    let world = World::new();
    let body = json!({"name": "a b", "role": "ingest", "tenant": null, "password": "hunter2"});
    let refused = world.ask(Who::Operator, "POST", USERS, body).await;
    assert_eq!((refused.status, refused.pointers()), (400, vec!["/name".to_owned(), "/role".into()]));
    let body = json!({"name": "anna", "role": "read", "tenant": null, "password": "hunter2"});
    let refused = world.ask(Who::Operator, "POST", USERS, body).await;
    assert_eq!((refused.status, refused.pointers()), (400, vec!["/password".to_owned()]));
    assert!(!refused.text.contains("hunter2"));
    let body = json!({"name": "anna", "role": "read", "tenant": null, "password": 7_777_777});
    assert!(!world.ask(Who::Operator, "POST", USERS, body).await.text.contains("7777777"));
}
