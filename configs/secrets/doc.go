// Package secrets gets, stores and hides the passwords of edr-bridge.
//
// A secret is named by a reference such as secret:ksc/password. It is looked for in the systemd credential directory
// (as the file ksc-password), then in exactly one back-end of the operating system's keyring; there is no silent
// second choice. Every call ends within a deadline, even when the back-end hangs. The value comes as a Secret, which
// every formatter and encoder prints as [redacted], and no error of this package holds one.
package secrets
