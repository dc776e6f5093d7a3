// `guideway top`: two looks at the daemon, an interval apart, and what tools/top.h makes of them.
#include <google/protobuf/util/json_util.h>

#include <iostream>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "control/config/render_yaml.h"
#include "tools/api_client.h"
#include "tools/live_view.h"
#include "tools/top.h"
#include "tools/verbs.h"

namespace guideway {
namespace {

// A daemon that takes longer than this is in trouble, and the screen must say so.
constexpr absl::Duration kPatience = absl::Seconds(5);

class TopView final : public LiveView {
 public:
  TopView(const std::string& socket, Format format) : client_(socket, kPatience), format_(format) {}

  absl::Status Refresh(const Terminal&) override {
    TopLook look;
    absl::Status status = client_.Get("/v1/status", &look.status);
    if (status.ok()) status = client_.Get("/v1/services", &look.services);
    if (status.ok()) status = client_.Get("/v1/backends", &look.backends);
    if (!status.ok()) return status;
    top_ = MakeTop(now_, look);
    now_ = std::move(look);
    return absl::OkStatus();
  }

  std::string Text(const Terminal& terminal) const override {
    const bool in_place = terminal.height > 0;
    // A block is of an interval.
    if (!in_place && top_.interval_seconds() <= 0) return "";
    switch (format_) {
      case Format::kTable: return LayOut(now_.status, top_, order_, terminal, in_place);
      case Format::kJson: return OneLine(top_);
      case Format::kYaml: return RenderYaml(top_);
    }
    return "";
  }

  void Key(char key) override {
    if (key == 'o') order_ = static_cast<TopOrder>((static_cast<int>(order_) + 1) % kTopOrders);
  }

 private:
  static std::string OneLine(const api::Top& top) {
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    options.always_print_primitive_fields = true;
    std::string json;
    (void)google::protobuf::util::MessageToJsonString(top, &json, options);
    return json + "\n";
  }

  ApiClient client_;
  const Format format_;
  TopLook now_;
  api::Top top_;
  TopOrder order_ = TopOrder::kTraffic;
};

int RunTop(const Call& call) {
  TopView view(call.socket, call.format);
  return ShowLive(call, "top", view);
}

constexpr Option kOptions[] = {kIntervalOption, kCountOption};

}  // namespace

Verb TopVerb() {
  return {
      .name = "top",
      .arguments = "",
      .live = true,
      .arguments_count = 0,
      .run = RunTop,
      .summary = "services, backends and workers, refreshed in place",
      .help =
          "Shows what goes on, in rates per second, again and again: first what is wrong, then\n"
          "workers, interfaces, services and backends, the most traffic first, and the latest\n"
          "changes of state. On a terminal in place: q quits, o sorts by another column (packets,\n"
          "new connections, open connections, name). Elsewhere one block an interval; with\n"
          "-o json one object a line. Times are UTC. A backend's bits are those that are sent, "
          "with a\n"
          "tunnel's outer headers; a service's are as they came in.\n\n"
          "  guideway top\n"
          "  guideway top --interval 5s --count 12 -o json | jq .packets_per_second",
      .options = kOptions};
}

}  // namespace guideway
