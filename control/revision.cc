#include "control/revision.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "control/config/diagnostics.h"

namespace guideway {
namespace {

// «a, b and 5 others».
std::string Listed(const std::vector<std::string>& names) {
  constexpr size_t kMost = 8;
  if (names.size() <= kMost) return absl::StrJoin(names, ", ");
  return absl::StrCat(absl::StrJoin(names.begin(), names.begin() + kMost, ", "), " and ",
                      names.size() - kMost, " more");
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

absl::StatusOr<std::optional<HealthTarget>> TargetOf(const config::Service& service,
                                                     const config::Backend& backend) {
  if (!service.has_health_check()) return std::nullopt;
  const config::HealthCheck& check = service.health_check();
  HealthTarget target;
  ProbeQuestion& question = target.question;
  switch (check.kind_case()) {
    case config::HealthCheck::kTcp: question.kind = ProbeQuestion::Kind::kTcp; break;
    case config::HealthCheck::kHttp: {
      question.kind = ProbeQuestion::Kind::kHttp;
      question.host = check.http().host();
      question.path = check.http().path();
      const StatusRange range = StatusRangeOf(check.http());
      question.status_low = range.first;
      question.status_high = range.last;
      break;
    }
    default:
      return absl::InvalidArgumentError(absl::StrCat(
          "service ", service.name(), ": this version has the health checks tcp and http alone"));
  }
  question.address = AddressOf(backend);
  question.port = ProbePort(service, backend).value_or(0);
  target.interval = ToDuration(check.interval());
  target.timeout = ToDuration(check.timeout());
  target.rise = check.rise();
  target.fall = check.fall();
  return target;
}

absl::Status CheckUnchanged(const Revision& in_force, const config::Config& config,
                            uint64_t hash_seed) {
  const config::Config& running = in_force.config();
  const auto refuse = [](absl::string_view key) {
    return absl::FailedPreconditionError(absl::StrCat(
        key, " cannot change while guidewayd runs: restart it with this configuration"));
  };
  if (config.interfaces_size() != running.interfaces_size()) return refuse("interfaces");
  for (int i = 0; i < config.interfaces_size(); ++i) {
    if (config.interfaces(i).SerializeAsString() != running.interfaces(i).SerializeAsString()) {
      return refuse(absl::StrCat("interfaces (", config.interfaces(i).name(), ")"));
    }
  }
  const config::Dataplane& a = config.dataplane();
  const config::Dataplane& b = running.dataplane();
  if (!std::equal(a.workers().begin(), a.workers().end(), b.workers().begin(), b.workers().end())) {
    return refuse("dataplane.workers");
  }
  if (a.has_idle() != b.has_idle() || a.idle() != b.idle()) return refuse("dataplane.idle");
  if (a.hugepages() != b.hugepages()) return refuse("dataplane.hugepages");
  if (a.flows_per_worker() != b.flows_per_worker()) return refuse("dataplane.flows_per_worker");
  if (config.control().socket() != running.control().socket()) return refuse("control.socket");
  if (config.control().http() != running.control().http()) return refuse("control.http");
  if (hash_seed != in_force.hash_seed) {
    return refuse(config.fleet().has_hash_seed_file() ? "the number in fleet.hash_seed_file"
                                                      : "fleet.hash_seed");
  }
  return absl::OkStatus();
}

}  // namespace guideway
