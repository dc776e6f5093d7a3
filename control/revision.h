// A revision: one configuration with all that belongs to it and stays as long as it is in force.
//
// The controller makes one for each configuration that it takes, on its own thread, service by
// service; from then on nothing changes in it, and the helper thread reads it.
#ifndef GUIDEWAY_CONTROL_REVISION_H_
#define GUIDEWAY_CONTROL_REVISION_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/container/node_hash_map.h"
#include "absl/hash/hash.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
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
    IpAddress address;
    const HealthTarget* target = nullptr;  // in `askers`; null: always up
  };
  struct Service {
    ServiceId id;
    absl::Span<const Backend> backends;
  };
  struct Place {
    int service;
    int backend;
  };

  explicit Revision(std::shared_ptr<const LoadedConfig> config);
  Revision(const Revision&) = delete;  // its parts point at each other
  Revision& operator=(const Revision&) = delete;

  const std::shared_ptr<const LoadedConfig> loaded;
  // As of its ConfigSource; null: out of nowhere, for tests.
  std::shared_ptr<const FileContents> files;
  std::string home;
  std::vector<Service> services;
  absl::node_hash_map<HealthTarget, std::vector<Place>> askers;

  // Adds the next service, and the next of its backends, in the order of the file.
  void AddService(ServiceId id) { services.push_back({id, {}}); }
  void AddBackend(const Backend& backend, const std::optional<HealthTarget>& target);

  const config::Config& config() const { return loaded->config; }
  size_t backend_count() const { return backends_.size(); }
  // Among all backends.
  size_t IndexOf(const Place& p) const { return static_cast<size_t>(&at(p) - backends_.data()); }
  // Of «service/backend»; nothing if there is none.
  std::optional<Place> PlaceOf(absl::string_view name) const;
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

 private:
  // A place counts as its names.
  using Names = std::pair<absl::string_view, absl::string_view>;
  struct ByName {
    using is_transparent = void;
    Names NamesOf(const Place& p) const {
      const config::Service& service = config->services(p.service);
      return {service.name(), service.backends(p.backend).name()};
    }
    Names NamesOf(const Names& names) const { return names; }
    size_t operator()(const auto& key) const { return absl::HashOf(NamesOf(key)); }
    bool operator()(const auto& a, const auto& b) const { return NamesOf(a) == NamesOf(b); }

    const config::Config* config;
  };

  std::vector<Backend> backends_;  // of all services; with room for all of the configuration
  absl::flat_hash_set<Place, ByName, ByName> by_name_{0, ByName{&loaded->config},
                                                      ByName{&loaded->config}};
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
