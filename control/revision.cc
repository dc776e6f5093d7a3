#include "control/revision.h"

#include <glog/logging.h>

#include <algorithm>
#include <set>
#include <utility>

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

Revision::Revision(std::shared_ptr<const LoadedConfig> config) : loaded(std::move(config)) {
  size_t backends = 0;
  for (const config::Service& service : loaded->config.services()) {
    backends += static_cast<size_t>(service.backends_size());
  }
  backends_.reserve(backends);
  by_name_.reserve(backends);
  services.reserve(static_cast<size_t>(loaded->config.services_size()));
}

void Revision::AddBackend(const Backend& backend, const std::optional<HealthTarget>& target) {
  absl::Span<const Backend>& of_service = services.back().backends;
  const Place place = {static_cast<int>(services.size() - 1), static_cast<int>(of_service.size())};
  CHECK_LT(backends_.size(), backends_.capacity()) << "spans point there";
  Backend& added = backends_.emplace_back(backend);
  of_service = absl::MakeConstSpan(&added - of_service.size(), of_service.size() + 1);
  by_name_.insert(place);
  if (!target) return;
  const auto asker = askers.try_emplace(*target).first;
  added.target = &asker->first;
  asker->second.push_back(place);
}

std::optional<Revision::Place> Revision::PlaceOf(absl::string_view name) const {
  const size_t slash = name.find('/');  // in no name
  if (slash == absl::string_view::npos) return std::nullopt;
  const auto found = by_name_.find(Names(name.substr(0, slash), name.substr(slash + 1)));
  if (found == by_name_.end()) return std::nullopt;
  return *found;
}

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

absl::Status CheckUnchanged(const Revision& in_force, const LoadedConfig& loaded,
                            const std::string& name, const std::string& config_file,
                            const absl::Status& host, uint64_t rolled_back_to) {
  std::vector<std::string> lines;
  for (const std::string& key : FixedKeysThatDiffer(
           in_force.config(), loaded.config, loaded.hash_seed != in_force.loaded->hash_seed)) {
    const auto place = loaded.places.find(key);
    if (!host.ok()) {
      if (lines.empty()) lines.emplace_back(host.message());
      lines.push_back(absl::StrCat(
          rolled_back_to != 0            ? absl::StrCat("revision ", rolled_back_to)
          : place == loaded.places.end() ? name
                                         : place->second,
          ": ", key, " cannot change while guidewayd runs, and a restart with it would fail"));
      continue;
    }
    if (rolled_back_to != 0) {
      lines.push_back(absl::StrCat("revision ", rolled_back_to, ": ", key,
                                   " cannot change while guidewayd runs: put `guideway history ",
                                   rolled_back_to, "` into ", config_file,
                                   " and restart guidewayd"));
      continue;
    }
    lines.push_back(absl::StrCat(
        place == loaded.places.end() ? name : place->second, ": ", key,
        " cannot change while guidewayd runs: ",
        name == config_file ? ""
                            : absl::StrCat("put this configuration into ", config_file, " and "),
        "restart guidewayd"));
  }
  if (lines.empty()) return absl::OkStatus();
  if (lines.size() > kMaxConfigErrors) {
    const size_t more = lines.size() - kMaxConfigErrors;
    lines.resize(kMaxConfigErrors);
    lines.push_back(absl::StrCat("… and ", more, " more"));
  }
  return absl::FailedPreconditionError(absl::StrJoin(lines, "\n"));
}

std::vector<std::string> NewWarnings(const Revision* before, const LoadedConfig& config) {
  const auto text = [](const std::string& warning) {
    const size_t end = warning.find(": ");
    return end == std::string::npos ? warning : warning.substr(end);
  };
  std::set<std::string> known;
  if (before != nullptr) {
    for (const std::string& warning : before->loaded->warnings) known.insert(text(warning));
  }
  std::vector<std::string> warnings;
  for (const std::string& warning : config.warnings) {
    if (!known.contains(text(warning))) warnings.push_back(warning);
  }
  return warnings;
}

}  // namespace guideway
