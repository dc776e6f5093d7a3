#include "control/host_addresses.h"

#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>

#include "absl/cleanup/cleanup.h"
#include "glog/logging.h"

namespace guideway {

std::vector<IpAddress> HostAddresses() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) {
    PLOG(ERROR) << "the kernel does not tell this host's addresses";
    return {};
  }
  const absl::Cleanup free_list = [list] { freeifaddrs(list); };
  std::vector<IpAddress> addresses;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      addresses.push_back(IpAddress::V4(&v4->sin_addr));
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      addresses.push_back(IpAddress::V6(&v6->sin6_addr));
    }
  }
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

}  // namespace guideway
