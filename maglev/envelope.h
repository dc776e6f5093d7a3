// What is put in front of a packet on its way to one backend, made ready when the configuration is
// compiled, so that a worker copies it and fills in what is the packet's own:
//
//   | destination, source, type | outer IP header | shim |    and behind it the client's packet
//   |        Ethernet           |                        |
//
// The shim is what the kind of tunnel has between outer IP and packet: GRE; UDP and GUE; UDP, VXLAN
// and an inner Ethernet header. What the packet fills in is 0: lengths, class of service,
// identification, the UDP source port, the bits over which outer sources spread, checksums. DF is
// set. Of what depends on the packet's IP version, it says that of the outer header's.
#ifndef GUIDEWAY_MAGLEV_ENVELOPE_H_
#define GUIDEWAY_MAGLEV_ENVELOPE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "maglev/net.h"

namespace guideway {

struct Backend;
struct Service;
enum class Forwarding : uint8_t;

// What there is to know of an envelope, beside its bytes: one word.
struct EnvelopeFacts {
  static constexpr uint8_t kEthernetSize = 14;

  uint8_t size = 0;  // in bytes; of Ethernet alone where there is no tunnel
  bool is_ipv6 : 1 = false;
  bool has_udp : 1 = false;
  bool spreads_source : 1 = false;
  Forwarding forwarding = {};
  // Of the next hop. Where there is none, nothing fits.
  uint16_t interface = 0;
  uint16_t mtu = 0;

  // Of the outer headers alone.
  uint32_t outer_size() const { return uint32_t{size} - kEthernetSize; }

  friend bool operator==(const EnvelopeFacts&, const EnvelopeFacts&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const EnvelopeFacts& f) {
    return H::combine(std::move(h), f.size, f.interface, f.mtu, f.forwarding);
  }
};

struct Envelope {
  // Ethernet, IPv6, UDP, VXLAN, Ethernet.
  static constexpr size_t kMaxSize = 84;
  static constexpr size_t kMaxShim = 30;  // of it, UDP, VXLAN, Ethernet
  static constexpr uint8_t kEthernetSize = EnvelopeFacts::kEthernetSize;

  EnvelopeFacts facts;
  // What it brings into the checksum to fill in, as a folded sum: of outer IPv4 that of its header;
  // of UDP over IPv6 that of UDP, with the pseudo header and the rest of the shim.
  uint16_t sum = 0;
  std::array<uint8_t, kMaxSize> bytes = {};

  friend bool operator==(const Envelope&, const Envelope&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const Envelope& e) {
    return H::combine(std::move(h), e.facts, e.sum, e.bytes);
  }
};

// What of an envelope is its backend's alone. The rest it has in common with others.
struct Adjacency {
  static constexpr uint32_t kLine = 64;  // bytes, of cache

  uint32_t snapshot = 0;       // Snapshot::serial of the one that it is of
  uint32_t envelope : 24 = 0;  // Snapshot::EnvelopeAt: the rest
  // Connections stay with the backend, whatever their packets say: it is up, and its service reads
  // no QUIC connection ids.
  uint32_t keeps_all : 1 = false;
  // The outer headers need more than the line of cache in front of a packet.
  uint32_t is_large : 1 = false;
  union {
    uint16_t sum = 0;  // of a tunnel: Envelope::sum
    uint16_t port;     // with nat: Backend::port
  };
  MacAddress mac;  // destination of the frame
  // Destination of the packet, the outer one of a tunnel; of IPv4 the first 4. Not with direct.
  uint8_t address[16] = {};

  // Takes it out of an envelope, and leaves zeros.
  static Adjacency TakeFrom(Envelope& envelope);
};
static_assert(sizeof(Adjacency) == 32);

// The envelope that follows from everything else about a backend and its service.
Envelope MakeEnvelope(const Service& service, const Backend& backend);

// Turns an envelope that was copied into one for a packet of the other IP version, 4 or 6. `ip`:
// the outer header. Returns what has to be added to `sum`.
uint32_t AdaptEnvelope(const EnvelopeFacts& envelope, int inner_version, uint8_t* ip);

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_ENVELOPE_H_
