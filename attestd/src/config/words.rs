//! `config check`: the configuration as sentences.

use std::fmt::Write as _;

use governance::on_halt::OnHalt;

use super::Config;

impl Config {
    /// What is enforced, in words, one sentence a line (`config check`).
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = writeln!(words, "{text}");
        };
        line(format_args!("This node is \"{}\".", self.node_id));
        self.identity.in_words(&mut line);
        let logs = [("event log", &self.logs.event_log), ("IMA log", &self.logs.ima_log)];
        for (what, path) in logs {
            match path {
                None if !self.identity.sends_logs() => {}
                Some(path) => line(format_args!("The {what} sent with evidence is {}.", path.display())),
                None => line(format_args!("No {what} is sent; a verifier that asks for one is told a fault.")),
            }
        }
        for domain in &self.domains {
            line(format_args!(
                "Domain {} may authorize executions; its verifier is {} (enrolment {}), must present \"{}\" under the CA in {}, over TLS 1.3.",
                domain.name,
                domain.nodes,
                domain.enrolment,
                domain.server_name,
                domain.ca.display()
            ));
        }
        if self.identity.tpm().is_some() {
            let pcrs = self.watch.pcrs.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            line(format_args!("PCRs {pcrs} are read every {} ms; a change halts.", self.watch.interval_ms));
        } else {
            line(format_args!("The TEE is looked for every {} ms; losing it halts.", self.watch.interval_ms));
        }
        let found = self.halt.cgroup.as_ref();
        line(format_args!(
            "Where an intent does not say otherwise, a halt {} every process of a workload, found by its {}.",
            match self.halt.action {
                OnHalt::Kill => "kills".to_owned(),
                OnHalt::Freeze => "freezes".to_owned(),
                OnHalt::Drain { grace_ms } => format!("asks to end, and after {grace_ms} ms kills,"),
                OnHalt::RevokeKeys => "takes the keys from, and leaves the lease to end,".to_owned(),
            },
            found.map_or("process tree".to_owned(), |p| format!("cgroup under {}", p.display())),
        ));
        if self.gateway.environment.is_empty() {
            line(format_args!("A workload gets no environment variable from its client."));
        } else {
            let names: Vec<_> = self.gateway.environment.iter().map(String::as_str).collect();
            line(format_args!(
                "A workload gets only these environment variables from its client: {}.",
                names.join(", ")
            ));
        }
        words
    }
}
