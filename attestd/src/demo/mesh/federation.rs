//! Domains that trust each other, each by an order of its own policy authority.

use serde_json::Value;

use super::super::stage::DemoFault;
use super::super::story::string;
use super::Mesh;

type Made<T> = Result<T, DemoFault>;

/// How often domains look for something new at each other, in seconds.
const REFRESH_HINT_S: &str = "1";

impl Mesh {
    /// Each of these domains, reached by the others at `HOST:PORT`, signs a bundle for them and trusts theirs, by the
    /// digest that their operators told; until all of them stand with each other. What a domain says serves for
    /// `max_staleness_s` after it was last seen.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn federate(&self, domains: &[(&str, String)], max_staleness_s: u32) -> Made<()> {
        for (domain, _) in domains {
            self.renew_bundle(domain).await?;
        }
        for (domain, _) in domains {
            for (partner, at) in domains.iter().filter(|(partner, _)| partner != domain) {
                self.trust(domain, partner, at, max_staleness_s).await?;
            }
        }
        for (domain, _) in domains {
            for (partner, _) in domains.iter().filter(|(partner, _)| partner != domain) {
                self.stands(domain, partner, "fresh").await?;
            }
        }
        Ok(())
    }

    /// Signs a domain's next bundle for partners and puts it into force; the file that they are given has its name.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn renew_bundle(&self, domain: &str) -> Made<()> {
        let signer = self.signer(domain);
        let renew = ["domain", "bundle", "--renew", "--key", &signer, "--refresh-hint-s", REFRESH_HINT_S];
        self.ask(domain, &renew, 0).await.map(drop)
    }

    /// Has a domain trust another one at `HOST:PORT`, or trust it anew, by the bundle that it publishes now.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn trust(&self, domain: &str, partner: &str, at: &str, max_staleness_s: u32) -> Made<()> {
        self.trust_with(domain, partner, at, max_staleness_s, &[]).await
    }

    /// The same, granting more.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn trust_with(
        &self,
        domain: &str,
        partner: &str,
        at: &str,
        max_staleness_s: u32,
        more: &[&str],
    ) -> Made<()> {
        let url = format!("https://{at}");
        let file = self.path(&format!("{partner}-for-{domain}.bundle"));
        if file.exists() {
            std::fs::remove_file(&file).map_err(|error| DemoFault::new("an old bundle file", error))?;
        }
        let (file, signer) = (file.display().to_string(), self.signer(domain));
        let shown = self.ask(partner, &["domain", "bundle", "--out", &file], 0).await?;
        let (pin, max_staleness_s) = (string(&shown, &["/bundle"])?, max_staleness_s.to_string());
        let mut trust = vec!["domain", "trust", &file, "--pin", &pin, "--url", &url, "--profile", "https-spiffe"];
        trust.extend(["--path-prefix", "/node/", "--lease-ms", "60000", "--rate-per-minute", "6000", "--witness"]);
        trust.extend(["--kind", "tpm", "--kind", "sev-snp", "--max-staleness-s", &max_staleness_s]);
        trust.extend(["--signer", &signer, "--reason", "a partner of the mesh"]);
        trust.extend(more);
        self.ask(domain, &trust, 0).await.map(drop)
    }

    /// Waits until a partner stands so with a domain.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn stands(&self, domain: &str, partner: &str, standing: &str) -> Made<()> {
        let stands = async || {
            let is = self.standing(domain, partner).await?;
            Ok((is.as_deref() == Some(standing)).then_some(()))
        };
        self.until(&format!("{partner} to be {standing} for {domain}"), stands).await
    }

    /// How a partner stands with a domain now; nothing for a stranger.
    ///
    /// # Errors
    /// [`DemoFault`].
    pub async fn standing(&self, domain: &str, partner: &str) -> Made<Option<String>> {
        let status = self.ask(domain, &["governance", "status"], 0).await?;
        let rows = status.pointer("/partners").and_then(Value::as_array);
        let row = rows.into_iter().flatten().find(|row| row.pointer("/partner") == Some(&Value::from(partner)));
        Ok(row.and_then(|row| row.pointer("/standing")?.as_str()).map(str::to_owned))
    }

    /// `HOST:PORT` of a domain's public surface.
    ///
    /// # Errors
    /// [`DemoFault`]: it serves none.
    pub fn public(&self, domain: &str) -> Made<String> {
        string(&self.addresses(domain)?, &["/public"])
    }
}
