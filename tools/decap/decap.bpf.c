// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only OR BSD-2-Clause
//
// Takes the tunnel header off what a Guideway balancer sends to this backend. A tc classifier in
// direct-action mode, for the ingress of the device that faces the balancers.
//
// A packet is decapsulated when all of this is so:
//   - it came to this host's own MAC address,
//   - its outer destination is an address of this host, so that tunnels in transit stay whole,
//   - its inner destination is an address of this host too: the VIP. So nobody reaches a third
//     party through this host, and a tunnel of its own (tunl0, Calico) gets its packets untouched.
// What is not for this program goes on unchanged; after it the kernel sees the packet as the client
// sent it, arriving on the same device.
//
// The helper that asks for a route is for GPL-compatible programs only, hence the licence line; a
// kernel that loads this needs no other part of Guideway.

// <linux/bpf.h> has the types that the bpf/ headers want.
// clang-format off
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#define ADDRESS_FAMILY_INET 2  // AF_INET; <sys/socket.h> is not for BPF
#define FRAGMENT_MASK 0x3fff   // more fragments, and the offset
#define ECN_MASK 3
#define ECN_CE 3  // congestion experienced

// Bytes to remove behind the Ethernet header, and what the outer header says about congestion.
struct tunnel {
  __u32 header_bytes;
  __u8 ecn;
};

// Copies the IPv4 header `offset` bytes behind the Ethernet header. False if there is none.
static __always_inline bool ReadIpv4(struct __sk_buff* skb, __u32 offset, struct iphdr* ip) {
  return bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + offset, ip, sizeof(*ip)) == 0 &&
         ip->version == 4 && ip->ihl >= 5;
}

// Whether this host takes a packet with this header for itself, as opposed to passing it on. A host
// that forwards nothing on this device drops by itself what is not its own.
static __always_inline bool IsForThisHost(struct __sk_buff* skb, const struct iphdr* ip) {
  struct bpf_fib_lookup route = {
      .family = ADDRESS_FAMILY_INET,
      .ifindex = skb->ifindex,
      .ipv4_src = ip->saddr,
      .ipv4_dst = ip->daddr,
  };
  const long answer = bpf_fib_lookup(skb, &route, sizeof(route), 0);
  return answer == BPF_FIB_LKUP_RET_NOT_FWDED || answer == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

// Recognises IP in IP (RFC 2003). A fragment of a tunnel packet is left alone: it can only be
// decapsulated once it is whole again.
static __always_inline bool FindIpip(struct __sk_buff* skb, struct tunnel* tunnel) {
  struct iphdr outer;
  if (!ReadIpv4(skb, 0, &outer) || outer.protocol != IPPROTO_IPIP) return false;
  if (outer.frag_off & bpf_htons(FRAGMENT_MASK)) return false;
  tunnel->header_bytes = outer.ihl * 4;
  tunnel->ecn = outer.tos & ECN_MASK;
  return IsForThisHost(skb, &outer);
}

SEC("tc")
int guideway_decap(struct __sk_buff* skb) {
  if (skb->pkt_type != PACKET_HOST || skb->protocol != bpf_htons(ETH_P_IP)) return TC_ACT_OK;

  struct tunnel tunnel;
  if (!FindIpip(skb, &tunnel)) return TC_ACT_OK;

  struct iphdr inner;
  if (!ReadIpv4(skb, tunnel.header_bytes, &inner) || !IsForThisHost(skb, &inner)) return TC_ACT_OK;

  // The segment size of a packet that GRO put together is that of the inner packets: keep it.
  if (bpf_skb_adjust_room(skb, -(__s32)tunnel.header_bytes, BPF_ADJ_ROOM_MAC,
                          BPF_F_ADJ_ROOM_FIXED_GSO) != 0) {
    return TC_ACT_SHOT;
  }
  // RFC 6040: congestion seen on the way through the tunnel is told to the inner packet; one that
  // cannot be told is dropped.
  if (tunnel.ecn == ECN_CE && bpf_skb_ecn_set_ce(skb) == 0) return TC_ACT_SHOT;
  return TC_ACT_OK;
}

char decap_license[] SEC("license") = "Dual BSD/GPL";
