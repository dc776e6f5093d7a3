#include "dataplane/packet/frame_text.h"

#include "absl/strings/str_cat.h"
#include "maglev/headers.h"

namespace guideway {
namespace {

enum class Next { kEthernet, kIpv4, kIpv6, kTcp, kUdp, kIcmp, kGre, kGue, kVxlan, kEnd };

Next OfEtherType(uint16_t type) {
  return type == kEtherTypeIpv4 ? Next::kIpv4 : type == kEtherTypeIpv6 ? Next::kIpv6 : Next::kEnd;
}

Next OfProtocol(uint8_t protocol) {
  switch (protocol) {
    case kProtocolIpv4: return Next::kIpv4;
    case kProtocolIpv6: return Next::kIpv6;
    case kProtocolTcp: return Next::kTcp;
    case kProtocolUdp: return Next::kUdp;
    case kProtocolGre: return Next::kGre;
    case kProtocolIcmp:
    case kProtocolIcmpv6: return Next::kIcmp;
    default: return Next::kEnd;
  }
}

std::string ProtocolText(uint8_t protocol) {
  switch (protocol) {
    case kProtocolIpv4: return "IPv4 inside";
    case kProtocolIpv6: return "IPv6 inside";
    case kProtocolTcp: return "TCP";
    case kProtocolUdp: return "UDP";
    case kProtocolGre: return "GRE";
    case kProtocolIcmp: return "ICMP";
    case kProtocolIcmpv6: return "ICMPv6";
    default: return absl::StrCat("protocol ", protocol);
  }
}

std::string EtherTypeText(uint16_t type) {
  if (type == kEtherTypeIpv4) return "IPv4";
  if (type == kEtherTypeIpv6) return "IPv6";
  return absl::StrCat("type ", NetworkOrder(type));
}

class FrameText {
 public:
  // Reads headers up to `end`; behind an outer UDP header come those of a tunnel if `is_tunnel`.
  FrameText(absl::Span<const uint8_t> frame, size_t end, bool is_tunnel)
      : frame_(frame), end_(end), is_tunnel_(is_tunnel) {
    for (Next next = Next::kEthernet; next != Next::kEnd && at_ < end_;) next = Read(next);
  }

  std::vector<std::string> Lines() && { return std::move(lines_); }

 private:
  template <typename Header>
  bool Take(Header* header) {
    if (end_ - at_ < sizeof(Header)) return false;
    *header = guideway::Read<Header>(frame_.data() + at_);
    at_ += sizeof(Header);
    return true;
  }
  void Add(const std::string& line) { lines_.push_back(line); }

  Next Read(Next what) {
    switch (what) {
      case Next::kEthernet: return ReadEthernet();
      case Next::kIpv4: return ReadIpv4();
      case Next::kIpv6: return ReadIpv6();
      case Next::kTcp: return ReadTcp();
      case Next::kUdp: return ReadUdp();
      case Next::kIcmp: return ReadIcmp();
      case Next::kGre: return ReadGre();
      case Next::kGue: return ReadGue();
      case Next::kVxlan: return ReadVxlan();
      case Next::kEnd: break;
    }
    return Next::kEnd;
  }

  Next ReadEthernet() {
    EthernetHeader ethernet;
    if (!Take(&ethernet)) return Next::kEnd;
    Add(absl::StrCat("Ethernet ", ethernet.source.ToString(), " > ",
                     ethernet.destination.ToString(), ", ", EtherTypeText(ethernet.type)));
    return OfEtherType(ethernet.type);
  }

  Next ReadIpv4() {
    Ipv4Header ip;
    if (!Take(&ip)) return Next::kEnd;
    at_ += (ip.version_and_length & 0x0f) * 4 - sizeof(ip);
    Add(absl::StrCat("IPv4 ", IpAddress::V4(ip.source).ToString(), " > ",
                     IpAddress::V4(ip.destination).ToString(), ", ", ProtocolText(ip.protocol),
                     ", TTL ", ip.time_to_live, (ip.fragment & kDontFragment) != 0 ? ", DF" : ""));
    return OfProtocol(ip.protocol);
  }

  Next ReadIpv6() {
    Ipv6Header ip;
    if (!Take(&ip)) return Next::kEnd;
    Add(absl::StrCat("IPv6 ", IpAddress::V6(ip.source).ToString(), " > ",
                     IpAddress::V6(ip.destination).ToString(), ", ", ProtocolText(ip.next_header),
                     ", hop limit ", ip.hop_limit, ", flow label ",
                     NetworkOrder32(ip.version_class_label) & 0xfffff));
    return OfProtocol(ip.next_header);
  }

  Next ReadTcp() {
    TcpHeader tcp;
    if (!Take(&tcp)) return Next::kEnd;
    Add(absl::StrCat("TCP ", NetworkOrder(tcp.source_port), " > ",
                     NetworkOrder(tcp.destination_port),
                     (tcp.flags & kTcpSyn) != 0 ? ", SYN" : ""));
    return Next::kEnd;
  }

  Next ReadUdp() {
    UdpHeader udp;
    if (!Take(&udp)) return Next::kEnd;
    Add(absl::StrCat("UDP ", NetworkOrder(udp.source_port), " > ",
                     NetworkOrder(udp.destination_port), udp.checksum == 0 ? ", checksum 0" : ""));
    if (!is_tunnel_) return Next::kEnd;
    // They differ in length.
    return end_ - at_ == sizeof(GueHeader) ? Next::kGue : Next::kVxlan;
  }

  Next ReadIcmp() {
    IcmpHeader icmp;
    if (!Take(&icmp)) return Next::kEnd;
    Add(absl::StrCat("ICMP type ", icmp.type, ", code ", icmp.code));
    return Next::kEnd;
  }

  Next ReadGre() {
    GreHeader gre;
    if (!Take(&gre)) return Next::kEnd;
    Add(absl::StrCat("GRE, ", EtherTypeText(gre.protocol), " inside"));
    return OfEtherType(gre.protocol);
  }

  Next ReadGue() {
    GueHeader gue;
    if (!Take(&gue)) return Next::kEnd;
    Add(absl::StrCat("GUE, ", ProtocolText(gue.protocol)));
    return OfProtocol(gue.protocol);
  }

  Next ReadVxlan() {
    VxlanHeader vxlan;
    if (!Take(&vxlan)) return Next::kEnd;
    Add(absl::StrCat("VXLAN ", NetworkOrder32(vxlan.vni) >> 8));
    return Next::kEthernet;
  }

  const absl::Span<const uint8_t> frame_;
  const size_t end_;
  const bool is_tunnel_;
  size_t at_ = 0;
  std::vector<std::string> lines_;
};

}  // namespace

std::vector<std::string> OuterHeaders(absl::Span<const uint8_t> frame, size_t inner_length) {
  return FrameText(frame, frame.size() - inner_length, true).Lines();
}

std::vector<std::string> AllHeaders(absl::Span<const uint8_t> frame) {
  return FrameText(frame, frame.size(), false).Lines();
}

}  // namespace guideway
