// What packets become: the leaves of the stage Rewrite (stages.h), each a function over the bytes
// of one IP packet, and what that stage keeps from one packet to the next. Tunnels are in
// encapsulate.h.
//
// All of them work in place. What is put in front goes into the headroom, which has room for the
// largest.
#ifndef GUIDEWAY_DATAPLANE_PACKET_REWRITE_H_
#define GUIDEWAY_DATAPLANE_PACKET_REWRITE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "dataplane/packet/burst.h"
#include "dataplane/packet/rate_limit.h"
#include "maglev/flow_hash.h"
#include "maglev/pages.h"
#include "maglev/snapshot.h"

namespace guideway {

// An IP packet in memory.
struct IpBytes {
  uint8_t* data;
  uint32_t length;

  int version() const { return data[0] >> 4; }
};

// What one worker's Rewrite remembers: the number of the next packet that may be fragmented, how
// many answers it gave, and memory for the fragments that a burst makes.
class RewriteState {
 public:
  // Worker number `worker` of `workers`, which take turns with identifications.
  RewriteState(size_t worker, size_t workers)
      : step_(static_cast<uint32_t>(workers)),
        identification_(static_cast<uint32_t>(worker)),
        memory_(kMemory, PageSize::kTransparentHuge) {}

  // Another worker has others, for as long as 16 bits allow.
  uint32_t NextIdentification() { return std::exchange(identification_, identification_ + step_); }
  // Answers of all kinds, at most so many a second. Errors come first: echo requests, however many,
  // get what errors leave.
  bool MayReplyToEcho(uint32_t per_second, Nanoseconds now) {
    return replies_.Take(per_second, now);
  }
  bool MaySendError(uint32_t per_second, Nanoseconds now) {
    if (!errors_.Take(per_second, now)) return false;
    replies_.Charge(per_second, now);
    return true;
  }

  // Forgets the extras of the burst before.
  void Begin() { used_ = count_ = 0; }
  // A frame of `length` bytes behind those of `packet`; null if there is no more room.
  uint8_t* Add(uint8_t packet, uint32_t length) {
    if (count_ == extras_.size() || length > kMemory - used_) return nullptr;
    uint8_t* data = &memory_[used_];
    extras_[count_++] = {.data = data, .length = length, .packet = packet};
    used_ += length;
    return data;
  }
  // What has been added so far; BackTo takes back the rest.
  struct Mark {
    size_t used, count;
  };
  Mark mark() const { return {used_, count_}; }
  void BackTo(const Mark& mark) {
    used_ = mark.used;
    count_ = mark.count;
  }
  std::span<const ExtraFrame> extras() const { return {extras_.data(), count_}; }

 private:
  // A burst of packets of 9600 bytes cut to fit 576, and more than enough for 1500.
  static constexpr size_t kMemory = size_t{1} << 20;
  static constexpr size_t kMaxExtras = 2048;

  const uint32_t step_;
  uint32_t identification_;
  RateLimit replies_, errors_;
  PageArray<uint8_t> memory_;
  std::array<ExtraFrame, kMaxExtras> extras_;
  size_t used_ = 0, count_ = 0;
};

// --- nat (translate.cc) ---

// The destination becomes the backend's, in the packet or, of an ICMP error (`quote` is not 0), in
// the quoted answer, whose source it is.
void TranslateToBackend(const Adjacency& backend, uint16_t quote, const ParsedPacket& packet,
                        const FlowKey& key, IpBytes bytes);
// The source becomes the VIP's, in the answer or, of an ICMP error, in the quoted request, whose
// destination it is. The error itself comes from the VIP, then (RFC 5508, section 4.2).
void TranslateFromBackend(const Service& service, const Backend& backend, uint16_t quote,
                          const ParsedPacket& packet, const FlowKey& key, IpBytes bytes);

// --- answers of the balancer itself (answer.cc) ---

// The echo reply to an echo request (RFC 792, RFC 4443), from the address that was asked.
IpBytes EchoReply(const ParsedPacket& packet, IpBytes bytes);
// «Fragmentation needed» (RFC 1191) or «packet too big» (RFC 4443), from the address the packet was
// sent to. Quotes as much of it as fits 576 bytes, or 1280.
IpBytes PacketTooBig(uint32_t mtu, IpBytes bytes);

// --- fragmentation (split.cc) ---

// Cuts a packet into fragments of at most `mtu` bytes: IPv4 (RFC 791), or an outer IPv6 packet
// without extension headers, which gets fragment headers (RFC 8200, section 4.5) of this
// identification. The first stays where it is and is returned; the others go to `state`, as extras
// of `index`, each behind `link_size` bytes that are left for Ethernet. Length 0 if there is no
// room for them.
IpBytes Split(IpBytes packet, uint32_t mtu, uint32_t identification, uint32_t link_size,
              uint8_t index, RewriteState& state);

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_REWRITE_H_
