// Package api lets people, machines and products talk to a running bridge. Ingress takes alerts over HTTP and Syslog lines over TCP, each
// as a bridge.Source. Server answers on a Unix socket with the whole of bridge.Desk and
// Client is that desk on the other side, so a command works alike with and without a running bridge. Pages shows metrics and
// health on a loopback address. Both refuse browsers. What is asked over the socket is recorded under the user the kernel
// names, whatever the client says. It is the only door to the
// Prometheus client and to snappy.
//
//	POST /v1/orders/cancel  {"id":"o12ab","actor":"cli:ann (INC-7)","why":"wrong host"}
//	200                     {"value":{"id":"o12ab34…","task":"isolateHost","params":{"action":1},"state":"cancelled",…}}
//	409                     {"error":{"code":"stale","message":"order o12ab34…: order has moved on"}}
package api
