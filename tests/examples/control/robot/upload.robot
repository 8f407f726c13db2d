*** Settings ***
Library           Process
Library           RequestsLibrary
Suite Setup       Create Session    notnow    %{NOTNOW_CONTROL}
Test Setup        Start Server
Test Teardown     DELETE On Session    notnow    /v1/servers/${SERVER}[name]    json=${{ {} }}

*** Test Cases ***
A Report Is Uploaded Once The Server Has Room Again
    ${first}=    Upload
    Should Be Equal As Integers    ${first.rc}    25    # curl: the upload was refused
    POST On Session    notnow    /v1/clock/advance    json=${{ {'by': '1h', 'servers': [$SERVER['name']]} }}
    ${second}=    Upload
    Should Be Equal As Integers    ${second.rc}    0    ${second.stderr}
    ${verdict}=    GET On Session    notnow    /v1/verdict    params=format=text&exit=0&server=${SERVER}[name]
    Should Be Equal    ${verdict.headers}[Notnow-Exit]    0    ${verdict.text}

*** Keywords ***
Start Server
    VAR    &{knobs}    outage=1h
    VAR    &{body}    scenario=ftp/storage-full    knobs=${knobs}    speed=${0}    ttl=5m
    ${answer}=    POST On Session    notnow    /v1/servers    json=${body}
    VAR    ${SERVER}    ${answer.json()}    scope=TEST

Upload
    [Documentation]    The client under test.
    ${ended}=    Run Process    curl    --silent    --show-error    -T    ${CURDIR}/report.csv
    ...    ftp://127.0.0.1:${SERVER}[port]/report.csv
    RETURN    ${ended}
