// Package nobus keeps the keyring module from starting or waiting for a D-Bus session bus while a program that links
// it starts.
//
// On Linux the keyring module connects to the session bus in its init functions: without a bus it runs dbus-launch
// from PATH (which leaves a daemon behind), and a bus that accepts but does not answer stops the program before main.
// Packages are initialised in the order of their import paths as soon as their imports are (Go specification, package
// initialization), so this one, which imports only the standard library, comes before the bus client.
// It sets an address that fails at once unless EDR_BRIDGE_SECRETS_BACKEND asks for secret-service; Restore puts the
// environment back.
package nobus
