# The way in: ssh with keys, nothing else.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.cygnet;
  preset = lib.mkOverride 900;
  sshd = config.services.openssh;
  restricted = key: ''restrict,command="${cfg.package}/bin/cygnetd bridge" ${key}'';
in
{
  config = lib.mkIf cfg.enable {
    services.openssh = {
      enable = preset true;
      # One key is enough, and it is the one that `cygnet card configure` makes on the laptop.
      hostKeys = preset [
        {
          path = "/etc/ssh/ssh_host_ed25519_key";
          type = "ed25519";
        }
      ];
      settings = {
        PasswordAuthentication = preset false;
        KbdInteractiveAuthentication = preset false;
        PermitRootLogin = preset "prohibit-password";
      };
      # What `cygnetd card apply` has read from the card, beside what is written below.
      authorizedKeysFiles = [ "/var/lib/cygnet/ssh/authorized_keys" ];
    };
    users.users.root.openssh.authorizedKeys.keys =
      if cfg.restrictKeys then map restricted cfg.authorizedKeys else cfg.authorizedKeys;

    assertions = [
      {
        assertion = sshd.enable;
        message = ''
          services.cygnet: without sshd nobody reaches the agent.
          Leave services.openssh.enable at true.
        '';
      }
      {
        assertion = !sshd.settings.PasswordAuthentication && !sshd.settings.KbdInteractiveAuthentication;
        message = ''
          services.cygnet: whoever logs in as root may erase the disks, and passwords can be guessed.
          Set services.openssh.settings.PasswordAuthentication and KbdInteractiveAuthentication to false, and give keys.
        '';
      }
      {
        assertion = sshd.settings.PermitRootLogin != "no";
        message = ''
          services.cygnet: `cygnet` logs in as root, and PermitRootLogin = "no" forbids it.
          Set services.openssh.settings.PermitRootLogin = "prohibit-password"; keys are enough.
        '';
      }
      {
        assertion = builtins.all (key: !lib.hasInfix "PRIVATE KEY" key) cfg.authorizedKeys;
        message = ''
          services.cygnet.authorizedKeys has a private key in it.
          Give the line of the .pub file, and make a new key: this one has been in the Nix store.
        '';
      }
    ];
  };
}
