//! The SPIFFE form of a bundle, read by a SPIFFE implementation that is not ours.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;
use spiffe::{JwtBundle, TrustDomain, X509Bundle};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::A;
use crate::member::Member;

/// The keys of one use. A reader of one kind of bundle is given only its own (SPIFFE Trust Domain and Bundle §4.2.2).
fn of_use<'d>(document: &'d Value, wanted: &str) -> Vec<&'d Value> {
    let keys = document["keys"].as_array().unwrap().iter();
    keys.filter(|key| key["use"] == wanted).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_implementation_reads_the_authorities_sequence_and_hint() {
    let a = Member::founded(A).await;
    let request = "GET /.well-known/spiffe-bundle HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let (status, body) = a.get(request.as_bytes()).await;
    assert_eq!(status, 200);
    let document: Value = serde_json::from_slice(&body).unwrap();
    let held = a.governor.current().bundle.verified.bundle().clone();
    let domain = TrustDomain::new(held.domain.as_str()).unwrap();

    let authorities = of_use(&document, "x509-svid");
    let certificates: Vec<Vec<u8>> =
        authorities.iter().map(|key| STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap()).collect();
    let read =
        X509Bundle::from_x509_authorities(domain.clone(), &certificates.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let read = read.unwrap();
    assert_eq!(read.trust_domain(), &domain);
    let read: Vec<&[u8]> = read.authorities().iter().map(|authority| authority.as_bytes()).collect();
    let pinned: Vec<&[u8]> = held.ca.iter().map(|der| der.as_ref()).collect();
    assert_eq!(read, pinned, "the same authorities, in their order");
    for (key, der) in authorities.iter().zip(&certificates) {
        // The JWK and the certificate in it are one key.
        let spki = Certificate::from_der(der).unwrap();
        let point = spki.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes().to_vec();
        let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
        assert_eq!(point, [vec![4], coordinate("x"), coordinate("y")].concat());
    }

    let tokens = of_use(&document, "jwt-svid");
    assert_eq!(tokens.len(), held.jwt.len());
    assert_eq!(tokens.len(), 1, "the key that the domain was founded with");
    let set = serde_json::json!({ "keys": tokens });
    let read = JwtBundle::from_jwt_authorities(domain, set.to_string().as_bytes()).unwrap();
    let named = |key: &&&Value| read.find_jwt_authority(key["kid"].as_str().unwrap()).is_some();
    assert_eq!(tokens.iter().filter(named).count(), tokens.len());
    assert_eq!(document["keys"].as_array().unwrap().len(), authorities.len() + tokens.len(), "of no other use");

    assert_eq!(document["spiffe_sequence"].as_u64(), Some(held.sequence));
    assert_eq!(document["spiffe_refresh_hint"].as_u64(), Some(held.refresh_hint_s));
    // What is no certificate is no authority to it either.
    let bent = certificates[0].get(..40).unwrap();
    assert!(X509Bundle::from_x509_authorities(TrustDomain::new(A).unwrap(), &[bent]).is_err());
}
