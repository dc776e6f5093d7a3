// `guideway get flows`: what the flow tables of a running daemon hold, counted, entry by entry, or
// of one connection.
#include <google/protobuf/util/json_util.h>

#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "control/api/api.pb.h"
#include "dataplane/packet/packet_text.h"
#include "tools/api_client.h"
#include "tools/verbs.h"

namespace guideway {
namespace {

// 60: «1m»
std::string BoundText(uint32_t seconds) {
  return seconds % 60 == 0 ? absl::StrCat(seconds / 60, "m") : absl::StrCat(seconds, "s");
}

std::string BackendText(const std::string& service, const std::string& backend) {
  return backend.empty() ? "(removed)" : absl::StrCat(service, "/", backend);
}

constexpr const char* kFilters[] = {"service", "backend", "state", "older-than", "younger-than"};

// What of the flows is asked for, as a query.
std::string FilterQuery(const Call& call) {
  std::vector<std::string> parts;
  for (const char* name : kFilters) {
    const std::string parameter = absl::StrReplaceAll(name, {{"-", "_"}});
    for (const std::string& value : call.Values(name)) {
      parts.push_back(QueryPart(parameter, value));
    }
  }
  return parts.empty() ? "" : absl::StrCat("?", absl::StrJoin(parts, "&"));
}

int Counts(const Call& call) {
  api::FlowList list;
  const absl::Status s =
      ApiClient(call.socket).Get(absl::StrCat("/v1/flows", FilterQuery(call)), &list);
  if (!s.ok()) return Refused(s, "get");
  if (ShowMessage(call, list)) return kYes;
  using Align = Table::Align;
  std::vector<Table::Column> columns = {Table::Names("SERVICE"),
                                        Table::Names("BACKEND"),
                                        {"STATE"},
                                        {"FLOWS", Align::kRight},
                                        {"UNCONFIRMED", Align::kRight}};
  for (const uint32_t bound : list.age_bounds_seconds()) {
    columns.push_back({absl::StrCat("<", BoundText(bound)), Align::kRight, 1});
  }
  columns.push_back({"OLDER", Align::kRight, 1});
  const size_t ages = columns.size() - 5;
  Table table(columns);
  for (const api::FlowCount& count : list.counts()) {
    std::vector<Table::Cell> row = {count.service(), count.backend(), count.state(),
                                    HumanCount(count.flows()), HumanCount(count.unconfirmed())};
    for (size_t i = 0; i < ages; ++i) {
      const auto n = static_cast<int>(i);
      row.emplace_back(n < count.by_age_size() ? HumanCount(count.by_age(n)) : "-");
    }
    table.Add(std::move(row));
  }
  std::cout << table.Render(call.terminal) << "\n" << Counted(list.flows(), "flow");
  if (list.of_removed_backends() > 0) {
    std::cout << ", " << list.of_removed_backends()
              << " of them of backends that have left the configuration";
  }
  std::cout << "\n";
  return kYes;
}

std::string EntryLine(absl::string_view core, absl::string_view state, absl::string_view confirmed,
                      absl::string_view timed_out, absl::string_view age,
                      absl::string_view backend) {
  return absl::StrFormat("%4s  %-11s  %-9s  %-9s  %9s  %s", core, state, confirmed, timed_out, age,
                         backend);
}

void ShowEntry(const std::string& line, const Terminal& terminal) {
  std::cout << (terminal.width > 0 ? Cut(line, terminal.width) : line) << "\n";
}

// As they come: there may be millions.
int Entries(const Call& call) {
  // Before the first entry, so that a refusal stands alone.
  bool headed = call.format != Format::kTable;
  const auto head = [&] {
    if (std::exchange(headed, true)) return;
    ShowEntry(
        Coloured("an entry has no client address, only a hash; --flow PACKET finds a client's",
                 Colour::kDim, call.terminal),
        call.terminal);
    ShowEntry(
        Coloured(EntryLine("CORE", "STATE", "CONFIRMED", "TIMED OUT", "AGE", "SERVICE/BACKEND"),
                 Colour::kDim, call.terminal),
        call.terminal);
  };
  bool understood = true;
  const auto show = [&](absl::string_view line) {
    if (call.format != Format::kTable) {
      std::cout << (call.format == Format::kYaml ? "- " : "") << line << "\n";
      return static_cast<bool>(std::cout);
    }
    api::FlowEntry entry;
    google::protobuf::util::JsonParseOptions options;
    options.ignore_unknown_fields = true;
    const google::protobuf::StringPiece json(line.data(), line.size());
    understood = google::protobuf::util::JsonStringToMessage(json, &entry, options).ok();
    if (!understood) return false;
    head();
    ShowEntry(
        EntryLine(absl::StrCat(entry.core()), entry.state(), entry.unconfirmed() ? "no" : "yes",
                  entry.timed_out() ? "yes" : "no", HumanDuration(entry.age_seconds()),
                  Printable(BackendText(entry.service(), entry.backend()))),
        call.terminal);
    return static_cast<bool>(std::cout);
  };
  const absl::Status s =
      ApiClient(call.socket).GetLines(absl::StrCat("/v1/flows/entries", FilterQuery(call)), show);
  if (!s.ok()) return Refused(s, "get");
  head();
  if (understood) return kYes;
  return No(absl::UnavailableError("cannot read guidewayd's answer: is it a newer one?"));
}

int OfPacket(const Call& call) {
  api::FlowLookup lookup;
  const absl::Status s =
      ApiClient(call.socket)
          .Get(absl::StrCat("/v1/flows/lookup?", QueryPart("packet", call.Values("flow")[0])),
               &lookup);
  if (!s.ok()) return No(s);
  const int status = lookup.found() ? kYes : kNo;
  if (ShowMessage(call, lookup)) return status;
  std::cout << lookup.packet() << "\n";
  for (const api::FlowEntry& entry : lookup.entries()) {
    std::cout << "  worker on core " << entry.core() << ": "
              << BackendText(entry.service(), entry.backend()) << ", " << entry.state()
              << (entry.unconfirmed() ? " but not confirmed, first" : ", last") << " packet "
              << HumanDuration(entry.age_seconds()) << " ago"
              << (entry.timed_out() ? "; timed out" : "") << "\n";
  }
  if (!lookup.found()) std::cout << "  no flow table has this connection\n";
  return status;
}

}  // namespace

int GetFlows(const Call& call) {
  if (!call.Has("flow")) return call.Has("entries") ? Entries(call) : Counts(call);
  std::vector<std::string> others(std::begin(kFilters), std::end(kFilters));
  others.push_back("entries");
  for (const std::string& other : others) {
    if (call.Has(other)) {
      return WrongCall(absl::StrCat("--", other, " has no effect with --flow"), "get");
    }
  }
  if (const auto packet = PacketText::Parse(call.Values("flow")[0]); !packet.ok()) {
    return WrongPacket(absl::StrCat("--flow: ", packet.status().message()), "get");
  }
  return OfPacket(call);
}

}  // namespace guideway
