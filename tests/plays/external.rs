//! Signing in by a certificate (EXTERNAL): the account is what its SAN names.

use std::path::{Path, PathBuf};

use impp_tests::impp::Impp;
use impp_tests::server::Server;
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

/// An authority for clients.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// A profile of `address` with a certificate that names `names`.
    fn profile(&self, server: &Server, file: &str, address: &str, names: Vec<SanType>) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let folder = server.data().join("profiles");
        let write = |name: String, text: &str| {
            let path = folder.join(name);
            write_private(&path, text);
            path.display().to_string()
        };
        let certificate = write(format!("{file}.pem"), &certificate.pem());
        let key = write(format!("{file}-key.pem"), &key.serialize_pem());
        let text = format!(
            "address = \"{address}\"\nserver = \"{}\"\ncertificate = \"{certificate}\"\n\
             key = \"{key}\"\ntrust = \"{}\"\n",
            server.address(),
            server.trust().display()
        );
        PathBuf::from(write(format!("{file}.toml"), &text))
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

fn uri(text: &str) -> SanType {
    SanType::URI(Ia5String::try_from(text).unwrap())
}

/// A certificate of a trusted authority signs in as the address that it names, and as no other.
#[tokio::test]
async fn a_certificate_signs_in_as_the_address_it_names() {
    let mut server = Server::quickstart();
    let (trusted, foreign) = (Authority::new(), Authority::new());
    std::fs::write(server.data().join("clients.pem"), &trusted.pem).unwrap();
    server.stop();
    server.set("tls.client_ca", "clients.pem");
    server.restart();
    let mail = SanType::Rfc822Name(Ia5String::try_from("carol@localhost").unwrap());
    let cases = [
        ("im", "alice@localhost", &trusted, vec![uri("im:alice@localhost")], 0),
        ("pres", "bob@localhost", &trusted, vec![uri("pres:bob@localhost")], 0),
        ("mail", "carol@localhost", &trusted, vec![mail], 0),
        ("other", "bob@localhost", &trusted, vec![uri("im:alice@localhost")], 4),
        ("unknown", "dave@localhost", &trusted, vec![uri("im:dave@localhost")], 4),
        ("foreign", "alice@localhost", &foreign, vec![uri("im:alice@localhost")], 3),
    ];
    for (file, address, authority, names, code) in cases {
        let profile = authority.profile(&server, file, address, names);
        let ran = Impp::with_profile(&profile).run(&["status", "set", "open"]);
        assert_eq!(ran.code, code, "{file}: {ran:?}");
    }
    let metrics = server.metrics();
    assert_eq!(metrics.get("impp_sign_ins_total{mechanism=\"EXTERNAL\",result=\"ok\"}"), 3.0);
    // A disabled account's certificate is worth nothing.
    server.user_ok(&["disable", "alice@localhost"]);
    let profile = server.data().join("profiles/im.toml");
    assert_eq!(Impp::with_profile(&profile).run(&["fetch", "bob@localhost"]).code, 4);
}
