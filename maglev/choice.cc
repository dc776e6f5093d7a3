#include "maglev/choice.h"

namespace guideway {

uint16_t RegionOf(const Service& service, const IpAddress& client) {
  const uint32_t region = service.regions->Find(client);
  return region == PrefixMap::kNone ? service.default_region : static_cast<uint16_t>(region);
}

uint64_t HashByAffinity(const Affinity& affinity, const IpAddress& client, uint64_t hash_seed) {
  const int bits = client.is_v4() ? affinity.ipv4_bits : affinity.ipv6_bits;
  return HashClient(Prefix::Of(client, bits), hash_seed);
}

Chooser::Chooser(uint64_t seed) : random_(seed), turns_(kMaxServices) {
  for (uint32_t& turn : turns_) turn = static_cast<uint32_t>(seed);
  random_ = NextRandom();
}

// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
uint64_t Chooser::NextRandom() {
  random_ += 0x9e3779b97f4a7c15u;
  uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// The power of two choices (Mitzenmacher, IEEE TPDS 12(10), 2001), by weight: both are picked in
// proportion to their weights, then compared by connections for their weight. The counts of other
// workers are of a moment ago: who took the lowest of all would send everybody to the same one.
const Backend& Chooser::LessLoaded(const Service& service, LiveConnections live) {
  const auto pick = [&]() -> const Backend& {
    return service.backends[service.picks.Pick(NextRandom())];
  };
  const Backend& first = pick();
  if (service.picks.size() == 1) return first;
  const Backend* second = &pick();
  constexpr int kTries = 8;  // where one has nearly all the weight, it may be picked every time
  for (int i = 1; second == &first && i < kTries; ++i) second = &pick();
  // With the connection that is about to open: (n + 1)/weight.
  const auto load_times_other = [&](const Backend& b, const Backend& other) {
    return (live(b.id) + 1) * other.weight * other.share;
  };
  return load_times_other(first, *second) <= load_times_other(*second, first) ? first : *second;
}

const Backend* Chooser::Choose(const Service& service, const IpAddress& client,
                               const FlowHash& hash, uint64_t hash_seed, LiveConnections live) {
  switch (service.scheduler) {
    case Scheduler::kMaglev:
    case Scheduler::kGeographic: return ChooseByHash(service, client, hash, hash_seed);
    case Scheduler::kRoundRobin:
      if (service.turns.empty()) return nullptr;
      return &service.backends[service.turns[turns_[service.id]++ % service.turns.size()]];
    case Scheduler::kRandom:
      if (service.picks.empty()) return nullptr;
      return &service.backends[service.picks.Pick(NextRandom())];
    case Scheduler::kLeastConnections:
      if (service.picks.empty()) return nullptr;
      return &LessLoaded(service, live);
  }
  return nullptr;
}

}  // namespace guideway
