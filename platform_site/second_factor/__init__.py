"""The second factor at the admin's login: a code from an authenticator app (TOTP, RFC 6238), or a recovery code."""
