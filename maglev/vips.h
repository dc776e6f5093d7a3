// Which service an address, a protocol and a port belong to.
//
// Addresses that stand alone are in a hash table with open addressing, a cache line each: of many
// thousand, most are in the first line that is looked at, which can be fetched ahead. Prefixes are
// in a PrefixMap behind it. Never changes once built; safe from any thread.
#ifndef GUIDEWAY_MAGLEV_VIPS_H_
#define GUIDEWAY_MAGLEV_VIPS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "maglev/net.h"
#include "maglev/pages.h"
#include "maglev/prefix_map.h"

namespace guideway {

struct Service;

// An address, or a prefix of addresses, that clients send to, with the services at it.
class alignas(64) Vip {
 public:
  // Ports of one protocol that belong to one service.
  struct Served {
    uint64_t first : 24, last : 24;  // as Place numbers them
    uint64_t id : 16;                // of the service
  };

  // What is served at this protocol (of the IP header) and port (host order), or null.
  const Served* Find(uint8_t protocol, uint16_t port) const {
    const uint32_t wanted = Place(protocol, port);
    const Served* served = count_ <= kInside ? inside_ : outside_;
    for (size_t count = count_; count > 1;) {
      const size_t half = count / 2;
      if (served[half].first <= wanted) served += half;
      count -= half;
    }
    return served->first <= wanted && wanted <= served->last ? served : nullptr;
  }

 private:
  friend class Vips;
  static constexpr size_t kInside = 5;
  // Protocol and port as one number. kAny takes all of them.
  static constexpr uint32_t Place(uint8_t protocol, uint16_t port) {
    return uint32_t{protocol} << 16 | port;
  }

  // Ascending, no overlap, at least one. The address of a prefix is none.
  IpAddress address_;
  uint32_t count_ = 0;
  union {
    Served inside_[kInside] = {};
    const Served* outside_;
  };
};
static_assert(sizeof(Vip) == 64);

class Vips {
 public:
  // None.
  Vips() = default;
  // Of services that outlive it. An InvalidArgument if one has no ports, or two share a VIP,
  // protocol and port.
  static absl::StatusOr<Vips> Build(absl::Span<const std::shared_ptr<const Service>> services);

  // The longest one around an address, or null.
  const Vip* Find(const IpAddress& address) const {
    for (size_t at = address.QuickHash();; ++at) {
      const Vip& vip = hosts_[at & mask_];
      if (vip.address_.is_none()) return prefixes_.empty() ? nullptr : FindPrefix(address);
      if (vip.address_ == address) return &vip;
    }
  }

  // Whether they take more than the first cache holds: then it pays to bring that of an address
  // closer before it is looked for.
  bool are_many() const { return mask_ >= 512; }
  void Prefetch(const IpAddress& address) const {
    __builtin_prefetch(&hosts_[address.QuickHash() & mask_]);
  }

 private:
  const Vip* FindPrefix(const IpAddress& address) const;
  void Set(Vip& vip, std::vector<Vip::Served> served);

  PageArray<Vip> hosts_{1, PageSize::kTransparentHuge};  // a free one has no address
  size_t mask_ = 0;
  std::vector<Vip> prefixes_;
  PrefixMap to_prefixes_;                          // to their indices
  std::vector<std::vector<Vip::Served>> outside_;  // what Vips have no room for
};

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_VIPS_H_
