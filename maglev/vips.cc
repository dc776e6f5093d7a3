#include "maglev/vips.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "maglev/snapshot.h"

namespace guideway {

static_assert(kMaxServices <= 1 << 16, "Served::id");

absl::StatusOr<Vips> Vips::Build(absl::Span<const std::shared_ptr<const Service>> services) {
  absl::flat_hash_map<Prefix, std::vector<Vip::Served>> by_prefix;
  size_t hosts = 0;
  for (const auto& service : services) {
    for (const Prefix& prefix : service->vips) {
      std::vector<Vip::Served>& served = by_prefix[prefix];
      if (served.empty()) hosts += prefix.is_host();
      if (service->protocol == Protocol::kAny) {
        served.push_back({0, Vip::Place(0xff, 0xffff), service->id});
        continue;
      }
      const auto protocol = static_cast<uint8_t>(service->protocol);
      for (const PortRange& ports : service->ports) {
        served.push_back(
            {Vip::Place(protocol, ports.first), Vip::Place(protocol, ports.last), service->id});
      }
    }
  }

  Vips vips;
  // At least half of them stay free, so that a search is short and ends.
  const size_t size = std::bit_ceil(2 * hosts + 1);
  vips.hosts_ = PageArray<Vip>(size, PageSize::kTransparentHuge);
  vips.mask_ = size - 1;
  std::vector<std::pair<Prefix, uint32_t>> prefixes;
  for (auto& [prefix, served] : by_prefix) {
    if (served.empty()) return absl::InvalidArgumentError("a service has ports");
    std::sort(served.begin(), served.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    for (size_t i = 1; i < served.size(); ++i) {
      if (served[i - 1].last >= served[i].first) {
        return absl::InvalidArgumentError("one service has a VIP, protocol and port");
      }
    }
    if (prefix.is_host()) {
      size_t at = prefix.address.QuickHash() & vips.mask_;
      while (!vips.hosts_[at].address_.is_none()) at = (at + 1) & vips.mask_;
      vips.hosts_[at].address_ = prefix.address;
      vips.Set(vips.hosts_[at], std::move(served));
    } else {
      prefixes.emplace_back(prefix, static_cast<uint32_t>(vips.prefixes_.size()));
      vips.Set(vips.prefixes_.emplace_back(), std::move(served));
    }
  }
  vips.to_prefixes_ = PrefixMap::Build(prefixes).value();
  return vips;
}

void Vips::Set(Vip& vip, std::vector<Vip::Served> served) {
  vip.count_ = static_cast<uint32_t>(served.size());
  if (served.size() <= Vip::kInside) {
    std::copy(served.begin(), served.end(), vip.inside_);
  } else {
    vip.outside_ = outside_.emplace_back(std::move(served)).data();
  }
}

const Vip* Vips::FindPrefix(const IpAddress& address) const {
  const uint32_t index = to_prefixes_.Find(address);
  return index == PrefixMap::kNone ? nullptr : &prefixes_[index];
}

}  // namespace guideway
