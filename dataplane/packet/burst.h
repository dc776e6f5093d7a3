// A burst: up to 32 packets that go through the pipeline together, as arrays side by side. Each
// stage fills the arrays that it writes for the packets that are still undecided and reads those of
// the stages before.
//
// A Burst belongs to one worker and is used again and again; nothing in it outlives the burst. It
// knows bytes, not mbufs: io fills the frames from its buffers and takes back what became of them.
#ifndef GUIDEWAY_DATAPLANE_PACKET_BURST_H_
#define GUIDEWAY_DATAPLANE_PACKET_BURST_H_

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/strings/string_view.h"
#include "dataplane/counters.h"
#include "maglev/flow_hash.h"
#include "maglev/snapshot.h"

namespace guideway {

// One Ethernet frame in contiguous memory.
//
//        headroom bytes        length bytes
//   |----- may be written -----|=============|
//                              ^ data
struct Frame {
  uint8_t* data = nullptr;
  uint32_t length = 0;     // without the frame check sequence
  uint16_t headroom = 0;   // at least Burst::kHeadroom on entry
  uint16_t interface = 0;  // index in the configuration: came in by; after Process: leaves by
  bool ip_checksum_good = false;  // the NIC has checked the IPv4 header checksum
  bool was_held = false;          // a fragment that waited for its first one: not to wait again
  bool was_handed_over = false;   // by the worker that received it
  uint64_t number = 0;            // the caller's own; a held fragment comes again with it
};

// What Parse found in a packet, besides its key. Offsets of IP's parts count from the IP header.
struct ParsedPacket {
  uint16_t ip_offset;         // of the IP header, in bytes from the start of the frame
  uint16_t transport_offset;  // behind the IP header with its options or extension headers
  uint32_t ip_length;         // all of the IP packet, in bytes
  uint32_t fragment_id;       // of a fragment: the identification, as it lies in the header
  uint8_t tcp_flags;          // 0 if not TCP
  uint8_t icmp_type;          // of ICMP and ICMPv6
  bool has_payload : 1;        // bytes after the TCP or UDP header
  bool is_fragment : 1;        // of a larger packet: the first or a later one
  bool is_later_fragment : 1;  // no transport header in it
  bool dont_fragment : 1;      // IPv4: the DF bit

  uint32_t transport_length() const { return ip_length - transport_offset; }
};
static_assert(sizeof(ParsedPacket) == 16);

// Which way a packet goes.
enum class Direction : uint8_t {
  kToBackend,    // from a client
  kFromBackend,  // the answer of a nat backend
  kToBalancer,   // an echo request
  kAboutTunnel,  // an ICMP error about an outer packet: it is the kernel's, but tells of a path MTU
};

// What the flow table knew of a packet's connection.
enum class FlowLookup : uint8_t {
  kNone,  // was not asked, or has no place
  kNew,   // nothing usable: the connection was entered
  kHit,
};
// «none», «new», «hit».
inline absl::string_view FlowLookupName(FlowLookup lookup) {
  constexpr absl::string_view kNames[] = {"none", "new", "hit"};
  return kNames[static_cast<size_t>(lookup)];
}

// Frames beyond the first that a packet became: the fragments of one that did not fit.
struct ExtraFrame {
  uint8_t* data;
  uint32_t length;
  uint8_t packet;  // leaves behind this packet's frame, by the same interface
};

// Some packets of a burst, a bit each.
using PacketSet = uint32_t;

struct Burst {
  static constexpr uint32_t kSize = 32;
  // What the largest outer headers (IPv6, UDP, VXLAN, Ethernet) and a fragment header put in front.
  static constexpr uint16_t kHeadroom = 96;
  static constexpr uint16_t kNobody = 0xffff;

  uint32_t size = 0;  // packets in it: entries 0 … size-1 of each array
  std::array<Frame, kSize> frames;

  // Parse
  std::array<ParsedPacket, kSize> packets;
  std::array<FlowKey, kSize> keys;
  bool has_fragments;
  // Match
  std::array<Direction, kSize> directions;
  std::array<const Service*, kSize> services;  // null: not to a service
  std::array<FlowHash, kSize> hashes;
  PacketSet to_choose;  // those that Choose finds a backend for: their hashes are known
  // Of an ICMP error about a connection or a tunnel: where the packet that it quotes begins, in
  // bytes from the IP header; else 0. Key and hash are the connection's, as the client sends it.
  std::array<uint16_t, kSize> quotes;
  // Choose; Match for kFromBackend
  std::array<const Backend*, kSize> backends;  // null: none chosen
  std::array<FlowLookup, kSize> lookups;
  std::array<bool, kSize> opened;  // the packet opened a connection

  // What has become of each packet. Valid for all after Process; while it runs, for those decided.
  std::array<Verdict, kSize> verdicts;
  std::array<Reason, kSize> reasons;  // of a kDrop
  // Without a verdict as yet: a copy of it is held and will come again, or it is another worker's
  // (HandOver) and gets its verdict there.
  std::array<bool, kSize> held;
  std::array<uint16_t, kSize> owners;  // the worker that a packet was left to, or kNobody
  // In the order of their packets. Their memory is the pipeline's, until it is next called.
  std::span<const ExtraFrame> extras;

  // Starts over with packets 0 … size-1 undecided.
  void Begin() {
    undecided_ = static_cast<PacketSet>((uint64_t{1} << size) - 1);
    to_choose = 0;
    has_fragments = false;
    extras = {};
    services.fill(nullptr);
    backends.fill(nullptr);
    quotes.fill(0);
    lookups.fill(FlowLookup::kNone);
    opened.fill(false);
    held.fill(false);
    owners.fill(kNobody);
  }

  // The IP packet as it was received, until Rewrite.
  const uint8_t* ip(uint32_t i) const { return frames[i].data + packets[i].ip_offset; }

  // One stage: calls `decide(i)` for each undecided packet of the set, in order of arrival. It
  // returns true for a packet that goes on, or sets its verdict (Drop, Finish) and returns false.
  template <typename Decide>
  void ForUndecided(PacketSet packets, Decide decide) {
    PacketSet decided = 0;
    for (PacketSet left = undecided_ & packets; left != 0; left &= left - 1) {
      const auto i = static_cast<uint8_t>(std::countr_zero(left));
      if (!decide(i)) decided |= PacketSet{1} << i;
    }
    undecided_ &= ~decided;
  }
  template <typename Decide>
  void ForUndecided(Decide decide) {
    ForUndecided(~PacketSet{0}, decide);
  }

  // The last stage: `decide(i)` sets the verdict of each undecided packet.
  template <typename Decide>
  void DecideAll(Decide decide) {
    for (PacketSet left = std::exchange(undecided_, 0); left != 0; left &= left - 1) {
      decide(static_cast<uint8_t>(std::countr_zero(left)));
    }
  }

  bool Finish(uint32_t i, Verdict verdict) {
    verdicts[i] = verdict;
    return false;
  }
  bool Drop(uint32_t i, Reason reason) {
    verdicts[i] = Verdict::kDrop;
    reasons[i] = reason;
    return false;
  }
  bool Hold(uint32_t i) {
    held[i] = true;
    return false;
  }
  bool HandOver(uint32_t i, uint16_t worker) {
    owners[i] = worker;
    return false;
  }
  bool IsDecided(uint32_t i) const { return !held[i] && owners[i] == kNobody; }
  // A frame leaves: it, and what extras it has.
  bool IsSent(uint32_t i) const {
    return IsDecided(i) && (verdicts[i] == Verdict::kForward || verdicts[i] == Verdict::kReply);
  }

 private:
  PacketSet undecided_ = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_BURST_H_
