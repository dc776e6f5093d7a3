#include "dataplane/packet/path_mtu.h"

#include <algorithm>

#include "maglev/flow_hash.h"

namespace guideway {
namespace {

constexpr Ticks kValid = 600 * kTicksPerSecond;
constexpr Ticks kTicksMask = 0xffffff;  // it wraps after 48 days

// Workers read their clocks at different moments of a burst, so an entry may seem to be made later:
// hence the second more in IsValid.
struct Entry {
  uint32_t fingerprint;
  uint16_t mtu;  // 0: nothing is known
  Ticks until;

  static Entry Of(uint64_t word) {
    return {static_cast<uint32_t>(word >> 40), static_cast<uint16_t>(word >> 24),
            static_cast<Ticks>(word & kTicksMask)};
  }
  uint64_t word() const {
    return uint64_t{fingerprint} << 40 | uint64_t{mtu} << 24 | (until & kTicksMask);
  }
  bool IsValid(Nanoseconds now) const {
    return mtu != 0 && ((until - TicksOf(now)) & kTicksMask) <= kValid + kTicksPerSecond;
  }
};

uint64_t Hash(const IpAddress& address) {
  return HashClient(Prefix::Of(address, address.bits()), 0);
}
uint32_t Fingerprint(uint64_t hash) { return static_cast<uint32_t>(hash >> 40); }

}  // namespace

uint16_t PathMtus::Limit(const IpAddress& address, uint16_t mtu, Nanoseconds now) const {
  const uint64_t hash = Hash(address);
  const Entry entry = Entry::Of(entries_[hash % kEntries].load(std::memory_order_relaxed));
  if (entry.fingerprint != Fingerprint(hash) || !entry.IsValid(now)) return mtu;
  return std::min(mtu, entry.mtu);
}

void PathMtus::Learn(const IpAddress& address, uint32_t mtu, Nanoseconds now) {
  const uint64_t hash = Hash(address);
  std::atomic<uint64_t>& place = entries_[hash % kEntries];
  const Entry old = Entry::Of(place.load(std::memory_order_relaxed));
  const Entry entry = {Fingerprint(hash),
                       static_cast<uint16_t>(std::clamp<uint32_t>(
                           mtu, address.is_v4() ? kLeastIpv4 : kLeastIpv6, 65535)),
                       TicksOf(now) + kValid};
  // Nor does it make a narrower path last longer.
  if (old.fingerprint == entry.fingerprint && old.IsValid(now) && old.mtu < entry.mtu) return;
  place.store(entry.word(), std::memory_order_relaxed);
  any_.store(true, std::memory_order_relaxed);
}

void PathMtus::Forget(Nanoseconds now) {
  if (!any_.load(std::memory_order_relaxed)) return;
  for (std::atomic<uint64_t>& place : entries_) {
    uint64_t word = place.load(std::memory_order_relaxed);
    if (word == 0 || Entry::Of(word).IsValid(now)) continue;
    place.compare_exchange_strong(word, 0, std::memory_order_relaxed);
  }
}

}  // namespace guideway
