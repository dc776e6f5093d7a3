// A revision: one configuration with all that belongs to it and stays as long as it is in force.
//
// Plain data and pure functions; the controller makes one for each configuration that it takes, on
// its own thread, and the helper thread reads it.
#ifndef GUIDEWAY_CONTROL_REVISION_H_
#define GUIDEWAY_CONTROL_REVISION_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "control/config/config.h"
#include "control/flap_damper.h"
#include "control/health.h"
#include "control/source.h"
#include "maglev/snapshot.h"

namespace guideway {

// Services and backends are in the order of the file.
struct Revision {
  struct Backend {
    BackendId id;
    std::string id_name;  // by which it has its id: one for each server that had its name
    IpAddress address;
    std::optional<HealthTarget> target;  // nothing: always up
  };
  struct Service {
    ServiceId id;
    std::vector<Backend> backends;
  };
  struct Place {
    int service;
    int backend;
  };

  std::shared_ptr<const LoadedConfig> loaded;
  std::shared_ptr<const ConfigSource> source;  // of `loaded`; null: out of nowhere, for tests
  std::vector<Service> services;
  absl::flat_hash_map<std::string, Place> places;  // by «service/backend»
  absl::flat_hash_map<HealthTarget, std::vector<Place>> askers;

  const config::Config& config() const { return loaded->config; }
  const Backend& at(const Place& p) const { return services[p.service].backends[p.backend]; }
  const config::Backend& BackendAt(const Place& p) const {
    return config().services(p.service).backends(p.backend);
  }
  std::string NameOf(const Place& p) const {
    const config::Service& service = config().services(p.service);
    return absl::StrCat(service.name(), "/", service.backends(p.backend).name());
  }

  // The error for somebody who asked for it: NotFound, with the names there are.
  absl::Status NoSuchBackend(const std::string& service, const std::string& backend) const;
};

// What to ask of a backend, and how; nothing for a service without a health check.
std::optional<HealthTarget> TargetOf(const config::Service& service,
                                     const config::Backend& backend);

// Of a service with a health check.
FlapDamping FlapDampingOf(const config::Service& service);

// FailedPrecondition if `loaded`, from the file `name`, differs from
// `in_force` in what is fixed while the process runs. A line for each such key with its place,
// which says what to do with `config_file`, the file that a restart reads.
// `host`: why guidewayd could not start with it on this host, a line that then comes first.
// `rolled_back_to`: the revision whose configuration it is; 0 if it is of none.
absl::Status CheckUnchanged(const Revision& in_force, const LoadedConfig& loaded,
                            const std::string& name, const std::string& config_file,
                            const absl::Status& host, uint64_t rolled_back_to = 0);

// Of a configuration, those warnings that the one before (null: there was none) has not. They begin
// with their places, «FILE:LINE:COLUMN: », which other lines of the file move.
std::vector<std::string> NewWarnings(const Revision* before, const LoadedConfig& config);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_REVISION_H_
