#include "control/revision.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "control/config/diagnostics.h"
#include "control/plan.h"

namespace guideway {
namespace {

// «a, b and 5 others».
std::string Listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 8;
  if (names.size() <= kMost) return absl::StrJoin(names, ", ");
  return absl::StrCat(absl::StrJoin(names.begin(), names.begin() + kMost, ", "), " and ",
                      names.size() - kMost, " more");
}

// Of HttpProbe or HttpsProbe, without what is of TLS.
template <typename Probe>
ProbeQuestion::Http HttpQuestion(const Probe& probe) {
  ProbeQuestion::Http question;
  question.host = probe.host();
  question.path = probe.path();
  const StatusRange range = StatusRangeOf(probe);
  question.status_low = range.first;
  question.status_high = range.last;
  return question;
}

}  // namespace

absl::Status Revision::NoSuchBackend(const std::string& service, const std::string& backend) const {
  std::vector<std::string> names;
  for (const config::Service& s : config().services()) {
    if (s.name() != service) continue;
    for (const config::Backend& b : s.backends()) names.push_back(b.name());
    return absl::NotFoundError(absl::StrCat(
        "service ", service, " has no backend \"", backend, "\"",
        names.empty() ? "; it has none"
                      : absl::StrCat("; it has ", Listed(names), Suggestion(backend, names))));
  }
  for (const config::Service& s : config().services()) names.push_back(s.name());
  return absl::NotFoundError(absl::StrCat(
      "there is no service \"", service, "\"",
      names.empty() ? "; there is none"
                    : absl::StrCat("; there are ", Listed(names), Suggestion(service, names))));
}

std::optional<HealthTarget> TargetOf(const config::Service& service,
                                     const config::Backend& backend) {
  if (!service.has_health_check()) return std::nullopt;
  const config::HealthCheck& check = service.health_check();
  HealthTarget target;
  ProbeQuestion& question = target.question;
  using Security = ProbeQuestion::Http::Security;
  switch (check.kind_case()) {
    case config::HealthCheck::kTcp: question.what = ProbeQuestion::Tcp(); break;
    case config::HealthCheck::kHttp: question.what = HttpQuestion(check.http()); break;
    case config::HealthCheck::kHttps: {
      ProbeQuestion::Http https = HttpQuestion(check.https());
      https.security = check.https().verify() ? Security::kTlsVerified : Security::kTls;
      question.what = std::move(https);
      break;
    }
    case config::HealthCheck::kDns: question.what = ProbeQuestion::Dns{check.dns().name()}; break;
    case config::HealthCheck::kIcmp: question.what = ProbeQuestion::Icmp(); break;
    case config::HealthCheck::kUdp:
      question.what = ProbeQuestion::Udp{check.udp().send(), check.udp().expect()};
      break;
    case config::HealthCheck::KIND_NOT_SET: return std::nullopt;
  }
  question.address = AddressOf(backend);
  question.port = ProbePort(service, backend).value_or(0);
  target.interval = ToDuration(check.interval());
  target.timeout = ToDuration(check.timeout());
  target.rise = check.rise();
  target.fall = check.fall();
  return target;
}

FlapDamping FlapDampingOf(const config::Service& service) {
  const config::FlapDamping& damping = service.health_check().flap_damping();
  return {.after = damping.after(),
          .hold = ToDuration(damping.hold()),
          .max_hold = ToDuration(damping.max_hold())};
}

absl::Status CheckUnchanged(const Revision& in_force, const config::Config& config,
                            uint64_t hash_seed) {
  const std::vector<std::string> keys =
      FixedKeysThatDiffer(in_force.config(), config, hash_seed != in_force.hash_seed);
  if (!keys.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        keys.front(), " cannot change while guidewayd runs: restart it with this configuration"));
  }
  return absl::OkStatus();
}

}  // namespace guideway
