// Package vault carries out getFile, quarantineFile and deleteFile, and is the quarantine: a directory of sealed copies of files
// with what is needed to put them back.
//
//	<dir>/<uuid>/blob        AES-256-GCM in chunks of 64 KiB under a key of the blob's own
//	<dir>/<uuid>/meta.json   path, digests, mode, owner, times, extended attributes, the order that asked for it
//	<dir>/.pending/<uuid>    what is about to be taken away, so that an interrupted order can be ended
//	<dir>/.stage             where files of this filesystem stand between their place and their end
//
// A copy is durable and verified before the original is touched. It knows no store and no settings.
package vault
