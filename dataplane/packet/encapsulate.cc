#include "dataplane/packet/headers.h"
#include "dataplane/packet/stages.h"

namespace guideway {
namespace {

constexpr uint8_t kOuterTimeToLive = 64;

Ipv4Header OuterHeader(const Ipv4Header& inner, uint16_t outer_length, const Backend& backend,
                       uint16_t& identification) {
  Ipv4Header outer = {};
  outer.version_and_length = 0x45;
  outer.type_of_service = inner.type_of_service;
  outer.total_length = NetworkOrder(outer_length);
  outer.fragment = inner.fragment & kDontFragment;
  outer.identification = outer.fragment != 0 ? 0 : NetworkOrder(identification++);
  outer.time_to_live = kOuterTimeToLive;
  outer.protocol = kProtocolIpip;
  std::memcpy(outer.source, backend.tunnel_source.bytes(), sizeof(outer.source));
  std::memcpy(outer.destination, backend.address.bytes(), sizeof(outer.destination));
  outer.checksum = InternetChecksum(&outer, sizeof(outer));
  return outer;
}

}  // namespace

void Encapsulate(uint16_t& identification, Burst& burst) {
  burst.ForUndecided([&](uint8_t i) {
    Frame& frame = burst.frames[i];
    const ParsedPacket& packet = burst.packets[i];
    const Backend& backend = *burst.backends[i];
    const NextHop& next_hop = backend.next_hop;
    const size_t outer_length = sizeof(Ipv4Header) + packet.ip_length;
    if (!next_hop.is_known()) return burst.Drop(i, Reason::kNoNextHop);
    if (outer_length > next_hop.mtu) return burst.Drop(i, Reason::kTooBig);

    uint8_t* inner = frame.data + packet.ip_offset;
    uint8_t* outer = inner - sizeof(Ipv4Header);
    Write(outer, OuterHeader(Read<Ipv4Header>(inner), static_cast<uint16_t>(outer_length), backend,
                             identification));
    frame.headroom -= sizeof(Ipv4Header);
    frame.data = outer - sizeof(EthernetHeader);
    frame.length += sizeof(Ipv4Header);
    frame.interface = next_hop.interface;
    Write(frame.data, EthernetHeader{next_hop.destination, next_hop.source, kEtherTypeIpv4});
    return burst.Finish(i, Verdict::kForward);
  });
}

}  // namespace guideway
