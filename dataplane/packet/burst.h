// A burst: up to 64 packets that go through the pipeline together. Each stage writes its part of
// the packets that are still undecided and reads those of the stages before.
//
// A Burst belongs to one worker and is used again and again; nothing in it outlives the burst. It
// knows bytes, not mbufs: io fills the frames from its buffers and takes back what became of them.
#ifndef GUIDEWAY_DATAPLANE_PACKET_BURST_H_
#define GUIDEWAY_DATAPLANE_PACKET_BURST_H_

#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "absl/strings/string_view.h"
#include "dataplane/counters.h"
#include "dataplane/packet/flow_table.h"
#include "dataplane/packet/worker_counters.h"
#include "maglev/flow_hash.h"
#include "maglev/snapshot.h"

namespace guideway {

// One Ethernet frame in contiguous memory.
//
//      kHeadroom or more         length bytes
//   |----- may be written -----|=============|
//                              ^ data
struct Frame {
  // What the largest outer headers (IPv6, UDP, VXLAN, Ethernet) and a fragment header put in front.
  static constexpr uint16_t kHeadroom = 96;

  uint8_t* data = nullptr;
  uint32_t length = 0;     // without the frame check sequence
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
  uint8_t tcp_flags;          // 0 if not TCP
  bool has_payload;           // bytes after the TCP or UDP header
  bool dont_fragment;         // IPv4: the DF bit
  uint8_t icmp_type;          // of ICMP and ICMPv6, else 0
  bool is_fragment;           // of a larger packet: the first or a later one
  bool is_later_fragment;     // no transport header in it
  uint32_t fragment_id;       // of a fragment: the identification, as it lies in the header

  uint32_t transport_length() const { return ip_length - transport_offset; }
};

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
  uint8_t packet;  // index of the packet; leaves behind its frame, by the same interface
};

// What is decided of a packet on its way, as it is before anything is.
struct alignas(32) Decision {
  // As an owner: no other worker.
  static constexpr uint16_t kNobody = 0xffff;
  static constexpr Verdict kNoVerdict = Verdict{0xff};

  // Choose, Follow: of `backend`, if that is where it goes. Recall: of the one that an entry names.
  WorkerCounters::PerBackend* per_backend = nullptr;
  BackendId backend = kNoBackend;  // Choose; Match for kFromBackend; none: no backend chosen
  // Match. Of a connection that Choose knew, none: its backend's.
  ServiceId service = kNoService;
  // Match: of an ICMP error about a connection or a tunnel, where the packet that it quotes begins,
  // in bytes from the IP header; else 0.
  uint16_t quote = 0;
  // HandOver: the worker that it was left to and gets its verdict from, or kNobody.
  uint16_t owner = kNobody;
  Direction direction = Direction::kToBackend;  // Match
  FlowLookup lookup = FlowLookup::kNone;        // Choose; Match for kFromBackend
  bool to_choose = false;                       // Match: Choose is to find a backend
  bool opened = false;                          // Choose: it opened a connection
  bool held = false;             // Follow: without a verdict as yet; a copy of it will come again
  bool undecided = true;         // no stage has decided it yet
  Verdict verdict = kNoVerdict;  // what has become of it; kNoVerdict while that is open
  Reason reason = {};            // of a kDrop
};
static_assert(sizeof(Decision) == 32, "started over by two stores");

// One packet on its way.
struct Packet : Decision {
  Frame frame;

  // Parse. Match: of an ICMP error about a connection, that connection's, as the client sends it.
  alignas(16) FlowKey key;
  ParsedPacket parsed;        // Parse
  alignas(16) FlowHash hash;  // Parse; Match for ICMP
  // Parse: where the connection may be. Recall: where it saw it; none: it did not.
  FlowTable::Entry entry;
  const Backend* by_hash;  // Choose: with no entry, what the lookup table says; may be null

  // The IP packet as it was received, until Rewrite.
  const uint8_t* ip() const { return frame.data + parsed.ip_offset; }

  // Forgets what was decided of the one before in this place.
  void StartOver() {
    static constexpr Decision kUndecided;
    std::memcpy(static_cast<Decision*>(this), &kUndecided, sizeof(kUndecided));
  }
  bool Finish(Verdict what) {
    verdict = what;
    return false;
  }
  bool Drop(Reason why) {
    verdict = Verdict::kDrop;
    reason = why;
    return false;
  }
  void SendTo(BackendId id, WorkerCounters::PerBackend& what_is_known) {
    backend = id;
    per_backend = &what_is_known;
  }
  bool Hold() {
    held = true;
    return false;
  }
  bool HandOver(uint16_t worker) {
    owner = worker;
    return false;
  }
  bool IsDecided() const { return verdict != kNoVerdict; }
  // A frame leaves: it, and what extras it has.
  bool IsSent() const { return verdict == Verdict::kForward || verdict == Verdict::kReply; }
};

static_assert(sizeof(Packet) == 160, "and 16 bytes of a key or hash never in two cache lines");

struct Burst {
  static constexpr uint32_t kSize = 64;

  uint32_t size = 0;  // packets in it, in order of arrival
  std::array<Packet, kSize> packets;

  const Snapshot* snapshot = nullptr;  // Process: what decides. Until the burst is accounted for

  bool has_fragments;  // Parse: any of the packets is one
  bool all_known;      // Recall: it has seen an entry for each packet
  // In the order of their packets. Their memory is the pipeline's, until it is next called.
  std::span<const ExtraFrame> extras;

  // The packets that are in it.
  std::span<Packet> all() { return {packets.data(), size}; }
  std::span<const Packet> all() const { return {packets.data(), size}; }

  // Whom a packet is for and where it goes, once it is processed; null: nobody, nowhere.
  const Service* ServiceOf(const Packet& p) const {
    const bool is_matched = p.service != kNoService;
    return snapshot->FindService(is_matched ? p.service : snapshot->TargetOf(p.backend).service);
  }
  const Backend* BackendOf(const Packet& p) const { return snapshot->FindBackend(p.backend); }

  // One stage: calls `decide(packet)` for each undecided packet, in order of arrival. It returns
  // true for a packet that goes on, or sets its verdict (Drop, Finish) and returns false.
  template <typename Decide>
  void ForUndecided(Decide decide) {
    for (Packet& p : all()) {
      if (p.undecided && !decide(p)) p.undecided = false;
    }
  }
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_BURST_H_
