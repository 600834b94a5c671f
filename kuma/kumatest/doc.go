// Package kumatest is a mock KUMA core for tests: the REST API over HTTPS (alerts, events, assets, services, active
// lists), the R-Vision push of its SOAR integration, and the poster of its http destinations. It speaks HTTP only,
// imports the standard library only and shares no code with the client it tests.
//
//	srv, err := kumatest.NewServer(kumatest.Config{Token: "secret"})
//	err = srv.Start(ctx)
//	defer srv.Close()
//	err = srv.PutAlert([]byte(`{"id":"…","status":"new","lastSeen":"2026-11-20T20:00:00Z","events":[…]}`))
package kumatest
