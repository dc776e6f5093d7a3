// Configurations for tests of control/, as short as a test wants them.
#ifndef GUIDEWAY_TESTS_SUPPORT_TEST_CONFIG_H_
#define GUIDEWAY_TESTS_SUPPORT_TEST_CONFIG_H_

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "control/config/config.h"
#include "glog/logging.h"

namespace guideway {

// A whole file around the items of its `services` list, each indented by two spaces. One interface,
// a default route through it.
inline std::string ConfigText(const std::string& services) {
  return absl::StrCat(R"(
fleet: { hash_seed: 7 }
interfaces:
  - { name: uplink, device: net_null0, mac: "02:00:00:00:00:01" }
routes:
  - { prefix: 0.0.0.0/0, interface: uplink, mac: "02:00:00:00:00:fe" }
tunnel: { source_ipv4: 192.0.2.1 }
services:
)",
                      services);
}

// The same, valid, with something that this version cannot do: next hops from the kernel.
inline std::string KernelRoutingText(const std::string& services) {
  return absl::StrReplaceAll(ConfigText(services), {{R"(routes:
  - { prefix: 0.0.0.0/0, interface: uplink, mac: "02:00:00:00:00:fe" })",
                                                     "routing: kernel"}});
}

// One service on VIP 198.51.100.N, TCP port 80, with a small table. `backends` is the inside of the
// list: «{ name: a, address: 10.0.0.1 }, …». `more` are further keys: «health_check: { tcp: {} }».
inline std::string ServiceText(const std::string& name, int n, const std::string& backends,
                               const std::string& more = "") {
  return absl::StrCat("  - { name: ", name, ", vips: [198.51.100.", n,
                      "], protocol: tcp, ports: [80], forwarding: ipip, table_size: 1009, ",
                      more.empty() ? "" : absl::StrCat(more, ", "), "backends: [", backends,
                      "] }\n");
}

// The files there are for a configuration, by path.
inline FileReader TestFiles(std::map<std::string, std::string> files) {
  return [files = std::move(files)](const std::string& path) -> absl::StatusOr<std::string> {
    const auto found = files.find(path);
    if (found == files.end()) return absl::NotFoundError("No such file or directory");
    return found->second;
  };
}

inline LoadedConfig LoadText(const std::string& text,
                             const std::map<std::string, std::string>& files = {}) {
  auto loaded = LoadConfig("test.yaml", text, TestFiles(files));
  CHECK(loaded.ok()) << loaded.status().message() << "\n" << text;
  return *std::move(loaded);
}

}  // namespace guideway

#endif  // GUIDEWAY_TESTS_SUPPORT_TEST_CONFIG_H_
