%% SPDX-FileCopyrightText: 2026 Archipel maintainers
%%! -start_epmd false
%% SPDX-License-Identifier: GPL-3.0-or-later
%%
%% Run by escript(1), which takes the second line for the virtual machine's flags.
%%
%% What the role needs of ejabberd and ejabberdctl does not offer: a configuration judged before it replaces the running
%% one, a table's place changed while it runs, passwords that are never an argument of a command, groups with the same form
%% in 23.01 and 24.12.
%% Prints one line for each change, nothing when there is none. The functions of ejabberd that are called here have
%% these forms in 23.01 and 24.12; the node that ARCHIPEL_EJABBERD_NODE names is reached as ejabberdctl reaches it, at the
%% address in its name, with the cookie.

-mode(compile).

main(["configuration", File]) ->
    configuration(File);
main(["--dry-run", "tables"]) ->
    tables(fun announce/2);
main(["tables"]) ->
    tables(fun act/2);
main(["--dry-run", "accounts", Domain, SecretsDir | Names]) ->
    accounts(fun announce/2, Domain, SecretsDir, Names);
main(["accounts", Domain, SecretsDir | Names]) ->
    accounts(fun act/2, Domain, SecretsDir, Names);
main(["--dry-run", "groups", Domain | Groups]) ->
    groups(fun announce/2, Domain, Groups);
main(["groups", Domain | Groups]) ->
    groups(fun act/2, Domain, Groups);
main(_) ->
    fail("usage: escript archipel-ejabberd.escript configuration FILE\n"
         "       escript archipel-ejabberd.escript [--dry-run] tables\n"
         "       escript archipel-ejabberd.escript [--dry-run] accounts DOMAIN SECRETS_DIR NAME...\n"
         "       escript archipel-ejabberd.escript [--dry-run] groups DOMAIN GROUP:DISPLAYED,...:MEMBER,...\n", []).

%% ejabberd's own validators, as at its start, in this short-lived VM.
configuration(File) ->
    ok = logger:set_handler_config(default, level, error),
    Libraries = ["/usr/lib/*/ejabberd-*/ebin", "/usr/lib64/ejabberd-*/ebin"],
    ok = code:add_pathsa(lists:flatmap(fun filelib:wildcard/1, Libraries)),
    lists:foreach(fun(App) -> {ok, _} = application:ensure_all_started(App) end, [crypto, fast_yaml, xmpp, pkix]),
    ok = application:load(ejabberd),
    true = os:putenv("EJABBERD_CONFIG_PATH", File),
    case ejabberd_config:load() of
        ok -> ok;
        {error, Reason, Context} -> fail("~ts~n", [econf:format_error(Reason, Context)]);
        {error, Reason} -> fail("~ts~n", [ejabberd_config:format_error({error, Reason})])
    end.

%% Published items are in memory, too. ejabberd.schema says so for each start but the first, which makes the tables.
tables(Do) ->
    case call(mnesia, table_info, [pubsub_item, storage_type]) of
        disc_copies -> ok;
        _ ->
            Arguments = [pubsub_item, call(erlang, node, []), disc_copies],
            Do("keep published items in memory, too",
               fun() -> ok = done(call(mnesia, change_table_copy_type, Arguments)) end)
    end.

%% Accounts have the passwords of the files SECRETS_DIR/NAME, and are made in the order given.
accounts(Do, Domain, SecretsDir, Names) ->
    lists:foreach(
      fun(Name) ->
              User = list_to_binary(Name),
              Host = list_to_binary(Domain),
              Password = password(filename:join(SecretsDir, Name)),
              case call(ejabberd_auth, user_exists, [User, Host]) of
                  false ->
                      Do(["create ", Name, "@", Domain],
                         fun() -> ok = call(ejabberd_auth, try_register, [User, Host, Password]) end);
                  true ->
                      case call(ejabberd_auth, check_password, [User, <<>>, Host, Password]) of
                          true -> ok;
                          false -> Do(["set the password of ", Name, "@", Domain],
                                      fun() -> ok = call(ejabberd_auth, set_password, [User, Host, Password]) end)
                      end
              end
      end, Names).

password(File) ->
    case file:read_file(File) of
        {ok, Content} -> string:trim(Content);
        {error, enoent} -> <<>>;  % a dry run before the secret is made
        {error, Reason} -> fail("~ts: ~ts~n", [File, file:format_error(Reason)])
    end.

%% Shared roster groups with exactly these members, who see those of the displayed groups. All groups come before all
%% members: a member is shown to the displayed groups at once, so these must be there.
groups(Do, Domain, Groups) ->
    Host = list_to_binary(Domain),
    Parsed = [[list_to_binary(Part) || Part <- string:split(Group, ":", all)] || Group <- Groups],
    lists:foreach(fun([Name, Displayed, _]) -> options(Do, Host, Name, Displayed) end, Parsed),
    lists:foreach(fun([Name, _, Members]) -> members(Do, Host, Name, Members) end, Parsed).

%% The label is what a roster shows as the group's name.
options(Do, Host, Group, Displayed) ->
    Options = [{description, <<"Kept by the role ejabberd">>}, {displayed_groups, names(Displayed)}, {label, Group}],
    case call(mod_shared_roster, get_group_opts, [Host, Group]) of
        error -> Do(["create the group ", Group], create(Host, Group, Options));
        Present ->
            case lists:sort(Present) of
                Options -> ok;
                _ -> Do(["change the group ", Group], create(Host, Group, Options))
            end
    end.

members(Do, Host, Group, Members) ->
    Wanted = [{User, Host} || User <- names(Members)],
    Present = call(mod_shared_roster, get_group_explicit_users, [Host, Group]),
    change_members(Do, Host, Group, Wanted -- Present, add_user_to_group, "add ~ts to ~ts"),
    change_members(Do, Host, Group, Present -- Wanted, remove_user_from_group, "remove ~ts from ~ts").

names(Joined) ->
    binary:split(Joined, <<",">>, [global, trim_all]).

create(Host, Group, Options) ->
    fun() -> ok = done(call(mod_shared_roster, create_group, [Host, Group, Options])) end.

change_members(Do, Host, Group, Users, Function, Text) ->
    lists:foreach(
      fun({User, _} = Member) ->
              Do(io_lib:format(Text, [User, Group]),
                 fun() -> ok = done(call(mod_shared_roster, Function, [Host, Member, Group])) end)
      end, Users).

done(ok) -> ok;
done({atomic, _}) -> ok;
done(Other) -> fail("ejabberd answers ~tp~n", [Other]).

announce(Text, _) ->
    io:format("~ts~n", [Text]).

act(Text, Change) ->
    Change(),
    announce(Text, Change).

%% The distribution starts here and not by a flag: judging a configuration needs none, and the flag would leave an epmd
%% behind that listens on every address.
call(Module, Function, Arguments) ->
    Node = os:getenv("ARCHIPEL_EJABBERD_NODE", "ejabberd@localhost"),
    %% A name with a dot is a long one, and nodes of long and short names don't meet.
    Names = case lists:member($., Node) of true -> longnames; false -> shortnames end,
    case net_kernel:start(list_to_atom("archipel-" ++ Node), #{name_domain => Names, dist_listen => false}) of
        {ok, _} -> ok;
        {error, {already_started, _}} -> ok;
        {error, _} -> fail("the Erlang distribution does not start~n", [])
    end,
    case rpc:call(list_to_atom(Node), Module, Function, Arguments, 30000) of
        {badrpc, nodedown} -> fail("ejabberd does not run~n", []);
        %% The reason may hold the arguments, and these a password: only the function is named.
        {badrpc, _} -> fail("~ts:~ts failed in ejabberd, see its log~n", [Module, Function]);
        Result -> Result
    end.

fail(Format, Arguments) ->
    io:format(standard_error, Format, Arguments),
    halt(1).
