# The announcement: the unit is the package's.
{
  config,
  lib,
  ...
}:
let
  cfg = config.services.cygnet.installed;
in
{
  config = lib.mkIf cfg.enable {
    systemd.packages = [ cfg.package ];
    systemd.services.cygnet-installed = {
      wantedBy = [ "multi-user.target" ];
      serviceConfig.Environment = [ "CYGNET_ANNOUNCE_FOR=${cfg.announceFor}" ];
      # A new generation is nothing that was installed.
      restartIfChanged = false;
    };
    networking.firewall.allowedUDPPorts = lib.mkIf cfg.openFirewall [ 5353 ];

    assertions = [
      {
        assertion = !(config.services.cygnet.enable or false);
        message = ''
          services.cygnet.installed: this system has the agent, too (services.cygnet.enable): it would announce itself as waiting
          and as installed. nixosModules.agent is for the card, nixosModules.installed for the system on the SSD; take one.
        '';
      }
    ];
  };
}
